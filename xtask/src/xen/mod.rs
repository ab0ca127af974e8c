//! A real Xen in QEMU: hypervisor, dom0 and toolstack of Debian, and guests in it.
//!
//! A [`bed::Bed`] runs a [`scenario::Scenario`], a shell script in dom0 with the
//! files it needs, and returns a [`report::Report`]. Starting Xen and dom0 is the
//! dear part, so one scenario starts as many guests as belong together.
//!
//! Everything runs under TCG, which emulates AMD's SVM with nested paging; a host
//! that runs KVM guests need not be able to nest them.

pub mod bed;
pub mod command;
pub mod dom0;
pub mod domain;
pub mod hypervisor;
pub mod report;
pub mod scenario;
