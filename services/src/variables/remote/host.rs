//! A host that keeps variables, as far as its guest can tell: what the sources
//! of varstored, and of QEMU's device, say of their end of the protocol, in a few
//! lines, without signatures and with one limit for all variables.
//!
//! It is strict where they are: a request that is wrong ends the test.

#![allow(dead_code, reason = "two crates use this, each a part of it")]

/// Bytes of all names and data that the host keeps.
const STORAGE: u64 = 128 * 1024;
/// The data of the largest variable that varstored keeps.
const DATA_LIMIT: usize = 57344;

pub const NON_VOLATILE: u32 = 1;
pub const BOOT: u32 = 2;
pub const RUNTIME: u32 = 4;
pub const APPEND: u32 = 0x40;

const SUCCESS: u64 = 0;
const INVALID_PARAMETER: u64 = error(2);
const UNSUPPORTED: u64 = error(3);
const BUFFER_TOO_SMALL: u64 = error(5);
const WRITE_PROTECTED: u64 = error(8);
const OUT_OF_RESOURCES: u64 = error(9);
const NOT_FOUND: u64 = error(14);
const ACCESS_DENIED: u64 = error(15);

/// An error code of UEFI.
pub const fn error(code: u64) -> u64 {
    code | 1 << 63
}

#[derive(Clone, Debug)]
pub struct Variable {
    pub vendor: [u8; 16],
    /// Without its terminator.
    pub name: Vec<u8>,
    pub attributes: u32,
    pub data: Vec<u8>,
}

/// All variables, the oldest one first.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub variables: Vec<Variable>,
    /// Requests that have come.
    pub requests: usize,
    /// Events that QEMU's device was told, by their number.
    pub events: Vec<u64>,
}

/// Takes a request apart.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, size: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(size);
        self.0 = rest;
        bytes
    }

    fn int(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }

    fn long(&mut self) -> usize {
        usize::try_from(u64::from_le_bytes(self.bytes(8).try_into().unwrap())).unwrap()
    }

    fn string(&mut self) -> &'a [u8] {
        let size = self.long();
        self.bytes(size)
    }

    fn guid(&mut self) -> [u8; 16] {
        self.bytes(16).try_into().unwrap()
    }

    fn flag(&mut self) -> bool {
        match self.bytes(1) {
            [0] => false,
            [1] => true,
            other => panic!("{other:?} is no flag"),
        }
    }
}

impl Host {
    fn used(&self) -> u64 {
        let sizes = self.variables.iter();
        sizes
            .map(|v| (v.name.len() + v.data.len() + 128) as u64)
            .sum()
    }

    fn index(&self, vendor: [u8; 16], name: &[u8]) -> Option<usize> {
        let is = |v: &Variable| v.vendor == vendor && v.name == name;
        self.variables.iter().position(is)
    }

    /// The variable behind index `from` that `at_runtime` is visible.
    fn visible_from(&self, from: usize, at_runtime: bool) -> Option<&Variable> {
        let visible = |v: &&Variable| !at_runtime || v.attributes & RUNTIME != 0;
        self.variables.iter().skip(from).find(visible)
    }

    /// Answers as varstored does, in the pages of a guest.
    pub fn varstored(&mut self, pages: &mut [u8]) {
        self.requests += 1;
        let mut request = Reader(pages);
        assert_eq!(request.int(), 1, "version");
        let mut reply = match request.int() {
            0 => self.varstored_get(&mut request),
            1 => self.varstored_set(&mut request).to_le_bytes().to_vec(),
            2 => self.varstored_next(&mut request),
            3 => self.varstored_info(&mut request),
            other => panic!("{other} is no command"),
        };
        assert!(reply.len() <= pages.len(), "a reply larger than the pages");
        pages[..reply.len()].swap_with_slice(&mut reply);
    }

    fn varstored_get(&self, request: &mut Reader<'_>) -> Vec<u8> {
        let (name, vendor) = (request.string(), request.guid());
        let (room, at_runtime) = (request.long(), request.flag());
        let found = self.index(vendor, name);
        let found = found.map(|at| &self.variables[at]);
        match found.filter(|v| !at_runtime || v.attributes & RUNTIME != 0) {
            None => NOT_FOUND.to_le_bytes().to_vec(),
            Some(v) if v.data.len() > room => longs(&[BUFFER_TOO_SMALL, v.data.len() as u64]),
            Some(v) => [
                &SUCCESS.to_le_bytes()[..],
                &v.attributes.to_le_bytes(),
                &(v.data.len() as u64).to_le_bytes(),
                &v.data,
            ]
            .concat(),
        }
    }

    fn varstored_next(&self, request: &mut Reader<'_>) -> Vec<u8> {
        let (room, name, vendor) = (request.long(), request.string(), request.guid());
        let at_runtime = request.flag();
        let from = match self.index(vendor, name) {
            _ if name.is_empty() => 0,
            Some(at) => at + 1,
            None => return longs(&[INVALID_PARAMETER]),
        };
        match self.visible_from(from, at_runtime) {
            None => longs(&[NOT_FOUND]),
            Some(v) if v.name.len() + 2 > room => {
                longs(&[BUFFER_TOO_SMALL, v.name.len() as u64 + 2])
            }
            Some(v) => [
                &longs(&[SUCCESS, v.name.len() as u64])[..],
                &v.name,
                &v.vendor,
            ]
            .concat(),
        }
    }

    fn varstored_set(&mut self, request: &mut Reader<'_>) -> u64 {
        let (name, vendor) = (request.string().to_vec(), request.guid());
        let (data, attributes) = (request.string(), request.int());
        let at_runtime = request.flag();
        if data.len() > DATA_LIMIT {
            return OUT_OF_RESOURCES;
        }
        let (append, attributes) = (attributes & APPEND != 0, attributes & !APPEND);
        let deletes = (data.is_empty() && !append) || attributes & (BOOT | RUNTIME) == 0;
        let room = STORAGE.saturating_sub(self.used());
        let kept = NON_VOLATILE | RUNTIME;
        match self.index(vendor, &name) {
            Some(at) => {
                let old = &mut self.variables[at];
                if at_runtime && old.attributes & RUNTIME == 0 {
                    return INVALID_PARAMETER;
                } else if at_runtime && old.attributes & kept != kept {
                    return WRITE_PROTECTED;
                } else if deletes {
                    self.variables.remove(at);
                } else if old.attributes != attributes {
                    return INVALID_PARAMETER;
                } else if data.len() as u64 > room {
                    return OUT_OF_RESOURCES;
                } else if append {
                    old.data.extend_from_slice(data);
                } else {
                    old.data = data.to_vec();
                }
                SUCCESS
            }
            None if deletes || data.is_empty() => NOT_FOUND,
            None if at_runtime && attributes & kept != kept => INVALID_PARAMETER,
            None if (name.len() + data.len() + 128) as u64 > room => OUT_OF_RESOURCES,
            None => {
                self.variables.push(Variable {
                    vendor,
                    name,
                    attributes,
                    data: data.to_vec(),
                });
                SUCCESS
            }
        }
    }

    fn varstored_info(&self, request: &mut Reader<'_>) -> Vec<u8> {
        if request.int() & 8 != 0 {
            return longs(&[UNSUPPORTED]);
        }
        longs(&[SUCCESS, STORAGE, STORAGE - self.used(), DATA_LIMIT as u64])
    }
}

/// `EfiSmmVariableProtocolGuid`.
const MESSAGE: [u8; 16] = [
    0x33, 0xd5, 0x32, 0xed, 0xe6, 0x99, 0x09, 0x42, 0x9c, 0xc0, 0x2d, 0x72, 0xcd, 0xd9, 0x98, 0xa7,
];
const PAYLOAD: usize = 40;
const EXIT_BOOT_SERVICES: u64 = 6;

/// QEMU's device (QEMU `hw/uefi/var-service-vars.c`).
impl Host {
    /// Answers as QEMU's device does; returns what its command register says.
    pub fn uefi_vars(&mut self, buffer: &mut [u8]) -> u16 {
        self.requests += 1;
        let mut request = Reader(buffer);
        assert_eq!(request.guid(), MESSAGE, "whom the message is for");
        let length = request.long();
        if length < 16 || 24 + length > buffer.len() {
            return 0x12;
        }
        let (function, _) = (request.long() as u64, request.long());
        // What lies beyond the message QEMU does not see.
        let body = Reader(&buffer[PAYLOAD..24 + length]);
        let (status, payload) = match function {
            1 => self.uefi_get(body),
            2 => self.uefi_next(body),
            3 => (self.uefi_set(body), Vec::new()),
            4 => (
                SUCCESS,
                longs(&[STORAGE, STORAGE - self.used(), STORAGE / 4]),
            ),
            5 | EXIT_BOOT_SERVICES => {
                self.events.push(function);
                (SUCCESS, Vec::new())
            }
            _ => (UNSUPPORTED, Vec::new()),
        };
        let fits = PAYLOAD + payload.len() <= 24 + length;
        let status = if fits { status } else { BUFFER_TOO_SMALL };
        buffer[32..40].copy_from_slice(&status.to_le_bytes());
        let shown = payload.len().min(length - 16);
        buffer[PAYLOAD..PAYLOAD + shown].copy_from_slice(&payload[..shown]);
        0
    }

    fn accessible(&self, attributes: u32) -> bool {
        let late = self.events.contains(&EXIT_BOOT_SERVICES);
        attributes & if late { RUNTIME } else { BOOT } != 0
    }

    fn uefi_get(&self, mut body: Reader<'_>) -> (u64, Vec<u8>) {
        let (vendor, room, size) = (body.guid(), body.long(), body.long());
        let attributes = body.int();
        let name = terminated(body.bytes(size));
        let Some(at) = self.index(vendor, name) else {
            return (NOT_FOUND, Vec::new());
        };
        let v = &self.variables[at];
        if !self.accessible(v.attributes) {
            return (ACCESS_DENIED, Vec::new());
        }
        assert_eq!(attributes, 0, "attributes that nobody asks for");
        let mut reply = vendor.to_vec();
        reply.extend(longs(&[v.data.len() as u64, size as u64]));
        reply.extend(v.attributes.to_le_bytes());
        reply.extend([name, &[0, 0]].concat());
        if v.data.len() > room {
            return (BUFFER_TOO_SMALL, reply);
        }
        reply.extend(&v.data);
        (SUCCESS, reply)
    }

    fn uefi_next(&self, mut body: Reader<'_>) -> (u64, Vec<u8>) {
        let (vendor, size) = (body.guid(), body.long());
        let name = terminated(body.bytes(size));
        let from = match self.index(vendor, name) {
            _ if name.is_empty() => 0,
            Some(at) => at + 1,
            None => return (INVALID_PARAMETER, Vec::new()),
        };
        let mut rest = self.variables.iter().skip(from);
        let Some(v) = rest.find(|v| self.accessible(v.attributes)) else {
            return (NOT_FOUND, Vec::new());
        };
        let size = longs(&[v.name.len() as u64 + 2]);
        (SUCCESS, [&v.vendor[..], &size, &v.name, &[0, 0]].concat())
    }

    /// Without most of what UEFI wants: that is the guest's.
    fn uefi_set(&mut self, mut body: Reader<'_>) -> u64 {
        let (vendor, data_size, name_size) = (body.guid(), body.long(), body.long());
        let attributes = body.int();
        let name = terminated(body.bytes(name_size)).to_vec();
        let data = body.bytes(data_size).to_vec();
        let (append, attributes) = (attributes & APPEND != 0, attributes & !APPEND);
        let old = self.index(vendor, &name);
        if data.is_empty() && old.is_none() {
            return SUCCESS;
        }
        let old_attributes = old.map(|at| self.variables[at].attributes);
        let denied = |attributes: u32| !self.accessible(attributes);
        if old_attributes.is_some_and(denied) || (!data.is_empty() && denied(attributes)) {
            return ACCESS_DENIED;
        }
        if !data.is_empty() && old_attributes.is_some_and(|old| old != attributes) {
            return INVALID_PARAMETER;
        }
        if append && old.is_some() {
            return UNSUPPORTED;
        }
        if (name.len() + data.len() + 128) as u64 > STORAGE - self.used() {
            return OUT_OF_RESOURCES;
        }
        if let Some(at) = old {
            self.variables.remove(at);
        }
        if !data.is_empty() {
            self.variables.push(Variable {
                vendor,
                name,
                attributes,
                data,
            });
        }
        SUCCESS
    }
}

/// A name that ends with its only terminator, without that.
fn terminated(name: &[u8]) -> &[u8] {
    let (name, end) = name.split_at(name.len() - 2);
    assert_eq!(end, [0, 0], "a terminator");
    assert!(!name.chunks(2).any(|unit| unit == end), "one terminator");
    name
}

fn longs(values: &[u64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}
