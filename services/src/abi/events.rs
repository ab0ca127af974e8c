//! Task priority levels (UEFI 2.11 §7.1).
//!
//! There are no events and no interrupts, so a level only has to be remembered
//! and given back.

use super::with;
use uefi_raw::table::boot::Tpl;

pub(super) unsafe extern "efiapi" fn raise_tpl(new_tpl: Tpl) -> Tpl {
    with("RaiseTPL", |boot| {
        Ok(core::mem::replace(&mut boot.tpl, new_tpl))
    })
    .unwrap_or(Tpl::APPLICATION)
}

pub(super) unsafe extern "efiapi" fn restore_tpl(old_tpl: Tpl) {
    let _ = with("RestoreTPL", |boot| {
        boot.tpl = old_tpl;
        Ok(())
    });
}
