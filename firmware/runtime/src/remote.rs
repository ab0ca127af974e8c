//! Variables that the host keeps, and where it is told to look for a request.
//!
//! Promises that the host sees one buffer of this image and nothing else, by the
//! physical address it had when the image was placed, and that the buffer is not
//! in use for anything else: it is the memory in which variables would be.

use crate::disk::Place;
use crate::ports;
use crate::registers::Registers;
use crate::state::{STORAGE, State};
use ovmf_lite_services::resident;
use ovmf_lite_services::variables::remote::{BUFFER, Doorbell, Event, Found, Protocol, Remote};
use ovmf_lite_services::variables::{Error, Failed, Info, Key, Phase, Variables};
use uefi_raw::table::runtime::VariableAttributes;

const PAGE: usize = 4096;

type Local = Variables<Place, STORAGE>;

const _: () = assert!(STORAGE >= BUFFER + PAGE);

/// The host, and what it knows of us.
#[derive(Clone, Copy)]
pub struct Bell {
    protocol: Protocol,
    /// varstored's port; or where the registers are now.
    address: usize,
    /// The buffer's first page, by its physical number.
    page: u32,
}

impl Bell {
    /// The host that the firmware found, if it did. Only while physical addresses
    /// are what we use.
    pub fn new(found: resident::Host, memory: &mut Local) -> Option<Self> {
        let protocol = match found.protocol {
            resident::Protocol::VARSTORED => Protocol::Varstored,
            resident::Protocol::UEFI_VARS => Protocol::UefiVars,
            _ => return None,
        };
        let address = buffer(memory).as_ptr().addr();
        Some(Self {
            protocol,
            address: usize::try_from(found.address).ok()?,
            page: u32::try_from(address / PAGE).ok()?,
        })
    }

    /// SetVirtualAddressMap says where the registers are from now on.
    pub fn move_to(&mut self, address: u64) {
        if let Ok(address) = usize::try_from(address) {
            self.address = address;
        }
    }

    /// Makes the host ready for questions, if it can be.
    pub fn open(self) -> Result<(), Failed> {
        match self.protocol {
            Protocol::Varstored => Ok(()),
            Protocol::UefiVars => self.registers().open(self.page),
        }
    }

    const fn registers(self) -> Registers {
        Registers(self.address)
    }

    /// The host's variables, asked for in `memory`.
    fn remote(self, memory: &mut Local) -> Remote<'_, Self> {
        Remote {
            protocol: self.protocol,
            buffer: buffer(memory),
            bell: self,
        }
    }
}

impl Doorbell for Bell {
    fn ring(&mut self, buffer: &mut [u8], sent: usize, back: usize) -> Result<(), Failed> {
        buffer.as_mut_ptr().expose_provenance();
        match self.protocol {
            Protocol::Varstored => {
                let port = u16::try_from(self.address).map_err(|_| Failed)?;
                // SAFETY: varstored works on the buffer before the instruction ends,
                // and on nothing else.
                unsafe { ports::write_double(port, self.page) };
                Ok(())
            }
            Protocol::UefiVars => self.registers().exchange(buffer, sent, back),
        }
    }
}

/// The pages within `memory`.
fn buffer(memory: &mut Local) -> &mut [u8] {
    let memory = memory.spare();
    let skipped = memory.as_ptr().addr().wrapping_neg() % PAGE;
    let pages = memory.get_mut(skipped..).unwrap_or_default();
    pages.get_mut(..BUFFER).unwrap_or_default()
}

impl State {
    /// The variable `key`, for a caller who has `room` bytes for its data.
    pub fn get(&mut self, phase: Phase, key: Key<'_>, room: usize) -> Result<Found<'_>, Error> {
        match self.host {
            Some(host) => host.remote(&mut self.variables).get(phase, key, room),
            None => self.variables.get(phase, key).map(Found::from),
        }
    }

    /// The variable after `key`, for a caller who has `room` bytes for its name.
    pub fn next(&mut self, phase: Phase, key: Key<'_>, room: usize) -> Result<Found<'_>, Error> {
        match self.host {
            Some(host) => host.remote(&mut self.variables).next(phase, key, room),
            None => self.variables.next(phase, key).map(|next| Found {
                size: next.name.len(),
                bytes: next.name,
                ..Found::from(next)
            }),
        }
    }

    /// SetVariable.
    pub fn set(
        &mut self,
        phase: Phase,
        key: Key<'_>,
        attributes: VariableAttributes,
        data: &[u8],
    ) -> Result<(), Error> {
        match self.host {
            Some(host) => host
                .remote(&mut self.variables)
                .set(phase, key, attributes, data),
            None => self.variables.set(phase, key, attributes, data),
        }
    }

    /// Tells the host, if it keeps the variables, of `event`.
    pub fn tell(&mut self, event: Event) {
        if let Some(host) = self.host {
            host.remote(&mut self.variables).tell(event);
        }
    }

    /// QueryVariableInfo.
    pub fn info(&mut self, phase: Phase, attributes: VariableAttributes) -> Result<Info, Error> {
        match self.host {
            Some(host) => host.remote(&mut self.variables).info(phase, attributes),
            None => self.variables.info(phase, attributes),
        }
    }
}
