//! Images that run, return, leave and go (UEFI 2.11 §7.4.2-7.4.5), with programs
//! made on the spot.

use crate::calls::Guest;
use crate::images::{driver, good, image_of, loaded};
use crate::install::interface;
use crate::map::Map;
use crate::programs::{ANSWER, BOOT_DRIVER, exiting_code, program, returning_code};
use crate::report::{Area, Failure, Outcome, equal, gives, holds, invalid, status, success};
use core::ptr;
use r_efi::efi::protocols::loaded_image::{self, Protocol as LoadedImage};
use r_efi::efi::{self, Handle, Status};

pub const START: Area = Area {
    name: "7.4.2 StartImage",
    checks: &[
        ("a program that returns", |g| {
            run(g, &returning_code(ANSWER))
        }),
        ("a program that calls Exit", |g| {
            run(g, &exiting_code(0, ptr::null_mut()))
        }),
        ("a program that says it failed", |g| {
            run_as(g, Status::LOAD_ERROR)
        }),
        ("a program that warns", |g| {
            run_as(g, Status::WARN_UNKNOWN_GLYPH)
        }),
        ("no place for exit data", no_exit_data),
        ("ImageHandle of NULL", |g| {
            invalid(start(g, ptr::null_mut()))
        }),
        ("ImageHandle that is no handle", |g| {
            invalid(start(g, interface(0x1230)))
        }),
        ("ImageHandle that is no image", |g| {
            invalid(start(g, g.system().console_out_handle))
        }),
        ("an image that has ended", start_ended),
        ("this image, which runs already", |g| {
            invalid(start(g, g.handle))
        }),
        ("a driver stays", driver_stays),
        ("a driver that failed goes", driver_fails),
    ],
};

pub const UNLOAD: Area = Area {
    name: "7.4.3 UnloadImage",
    checks: &[
        ("an image that never ran", |g| {
            let handle = loaded(g, &good())?;
            success("UnloadImage", g.unload_image(handle))?;
            gone(g, handle)
        }),
        ("a second time", unload_twice),
        ("its memory is free again", unload_frees),
        ("ImageHandle of NULL", |g| {
            invalid(g.unload_image(ptr::null_mut()))
        }),
        ("ImageHandle that is no image", |g| {
            invalid(g.unload_image(g.system().console_out_handle))
        }),
        ("an application that runs", |g| {
            gives(Status::UNSUPPORTED, g.unload_image(g.handle))
        }),
        ("a driver without an Unload function", driver_without_unload),
        ("a driver with an Unload function", driver_with_unload),
        ("a driver that does not want to", driver_refuses),
    ],
};

pub const EXIT: Area = Area {
    name: "7.4.5 Exit",
    checks: &[
        ("an image that never ran is unloaded", exit_unstarted),
        ("ImageHandle of NULL", |g| invalid(exit(g, ptr::null_mut()))),
        ("ImageHandle that is no image", |g| {
            invalid(exit(g, g.system().console_out_handle))
        }),
        ("another image's code cannot end us", exit_of_another),
    ],
};

/// Checks that a handle stands for an image no more.
fn gone(guest: &Guest, handle: Handle) -> Outcome {
    holds("an image that is gone", image_of(guest, handle).is_err())
}

/// StartImage without exit data.
pub fn start(guest: &Guest, handle: Handle) -> Status {
    guest.start_image(handle, &mut 0, &mut ptr::null_mut())
}

/// Starts a program, which must end with [`ANSWER`] and be unloaded.
fn run(guest: &Guest, code: &[u8]) -> Outcome {
    let handle = loaded(guest, &program(code))?;
    let (mut size, mut data) = (0, ptr::null_mut());
    let found = guest.start_image(handle, &mut size, &mut data);
    status("StartImage", found, ANSWER)?;
    equal("exit data", (size, data.is_null()), (0, true))?;
    gone(guest, handle)
}

fn run_as(guest: &Guest, returned: Status) -> Outcome {
    let handle = loaded(guest, &program(&returning_code(returned)))?;
    gives(returned, start(guest, handle))?;
    gone(guest, handle)
}

fn no_exit_data(guest: &Guest) -> Outcome {
    let handle = loaded(guest, &good())?;
    let found = guest.start_image(handle, ptr::null_mut(), ptr::null_mut());
    gives(ANSWER, found)
}

fn start_ended(guest: &Guest) -> Outcome {
    let handle = loaded(guest, &good())?;
    gives(ANSWER, start(guest, handle))?;
    invalid(start(guest, handle))
}

/// A driver that has been started.
fn running_driver(guest: &Guest) -> Result<Handle, Failure> {
    let handle = loaded(guest, &driver(BOOT_DRIVER, Status::SUCCESS))?;
    success("StartImage", start(guest, handle))?;
    Ok(handle)
}

/// Has a driver unload itself the only way there is.
fn remove_driver(guest: &Guest, handle: Handle) -> Outcome {
    set_unload(guest, handle, agree)?;
    success("UnloadImage", guest.unload_image(handle))
}

extern "efiapi" fn agree(_: Handle) -> Status {
    Status::SUCCESS
}

extern "efiapi" fn disagree(_: Handle) -> Status {
    Status::NOT_READY
}

fn set_unload(guest: &Guest, handle: Handle, unload: loaded_image::ProtocolUnload) -> Outcome {
    let found = guest.interface::<LoadedImage>(handle, &loaded_image::PROTOCOL_GUID);
    let image = found.map_err(|status| Failure::new(format_args!("HandleProtocol: {status}")))?;
    // SAFETY: the protocol of an image that is still there; this field is for
    // the image to set.
    unsafe { (*image).unload = Some(unload) };
    Ok(())
}

fn driver_stays(guest: &Guest) -> Outcome {
    let handle = running_driver(guest)?;
    image_of(guest, handle)?;
    remove_driver(guest, handle)
}

fn driver_fails(guest: &Guest) -> Outcome {
    let handle = loaded(guest, &driver(BOOT_DRIVER, ANSWER))?;
    gives(ANSWER, start(guest, handle))?;
    gone(guest, handle)
}

fn unload_twice(guest: &Guest) -> Outcome {
    let handle = loaded(guest, &good())?;
    success("UnloadImage", guest.unload_image(handle))?;
    invalid(guest.unload_image(handle))
}

fn unload_frees(guest: &Guest) -> Outcome {
    let handle = loaded(guest, &good())?;
    let base = image_of(guest, handle)?.image_base.addr() as u64;
    success("UnloadImage", guest.unload_image(handle))?;
    let mut map = Map::new();
    map.fetch(guest)?;
    let ty = map.at(base).map(|d| d.r#type);
    equal("type", ty, Some(efi::CONVENTIONAL_MEMORY))
}

fn driver_without_unload(guest: &Guest) -> Outcome {
    let handle = running_driver(guest)?;
    let found = guest.unload_image(handle);
    remove_driver(guest, handle)?;
    gives(Status::UNSUPPORTED, found)
}

fn driver_with_unload(guest: &Guest) -> Outcome {
    let handle = running_driver(guest)?;
    remove_driver(guest, handle)?;
    gone(guest, handle)
}

fn driver_refuses(guest: &Guest) -> Outcome {
    let handle = running_driver(guest)?;
    set_unload(guest, handle, disagree)?;
    let found = guest.unload_image(handle);
    image_of(guest, handle)?;
    remove_driver(guest, handle)?;
    gives(Status::NOT_READY, found)
}

fn exit(guest: &Guest, handle: Handle) -> Status {
    guest.exit(handle, ANSWER, 0, ptr::null_mut())
}

fn exit_unstarted(guest: &Guest) -> Outcome {
    let handle = loaded(guest, &good())?;
    success("Exit", exit(guest, handle))?;
    gone(guest, handle)
}

/// A driver that has returned is not the image that runs.
fn exit_of_another(guest: &Guest) -> Outcome {
    let handle = running_driver(guest)?;
    let found = exit(guest, handle);
    remove_driver(guest, handle)?;
    invalid(found)
}
