//! Variables as varstored keeps them: its checks in its order, its limits, its
//! statuses (xapi-project/varstored, `handler.c`; UEFI 2.11 §8.2).
//!
//! Independent of the firmware's own store on purpose: what one gets wrong must
//! not hide in the other.
//!
//! Not modelled: signatures. There never is a platform key, so KEK, db, dbx and
//! dbt are taken with any signature, as varstored does then, and what else is
//! authenticated by time is refused (`SECURITY_VIOLATION`), PK included. Nor are
//! signature lists looked into, duplicates in them removed, SignatureSupport
//! there, or the variables of memory overwrite and physical presence special.

/// `EFI_STATUS`, UEFI 2.11 Appendix D.
pub type Status = u64;

pub const SUCCESS: Status = 0;
pub const INVALID_PARAMETER: Status = error(2);
pub const UNSUPPORTED: Status = error(3);
pub const BUFFER_TOO_SMALL: Status = error(5);
pub const DEVICE_ERROR: Status = error(7);
pub const WRITE_PROTECTED: Status = error(8);
pub const OUT_OF_RESOURCES: Status = error(9);
pub const NOT_FOUND: Status = error(14);
pub const ACCESS_DENIED: Status = error(15);
pub const SECURITY_VIOLATION: Status = error(26);

const fn error(code: u64) -> Status {
    1 << 63 | code
}

pub const NON_VOLATILE: u32 = 1;
pub const BOOT: u32 = 1 << 1;
pub const RUNTIME: u32 = 1 << 2;
const HARDWARE_ERROR: u32 = 1 << 3;
const BY_COUNT: u32 = 1 << 4;
pub const BY_TIME: u32 = 1 << 5;
pub const APPEND: u32 = 1 << 6;
const ENHANCED: u32 = 1 << 7;

/// Most bytes of a name, without a NUL.
pub const NAME_LIMIT: u64 = 4096;
/// Most bytes of a value.
pub const DATA_LIMIT: u64 = 57344;
/// Most bytes of everything, with so many for each variable.
const TOTAL_LIMIT: u64 = 131_072;
const OVERHEAD: u64 = 128;

/// A `GUID` as it is in memory.
pub type Guid = [u8; 16];

/// `EFI_GLOBAL_VARIABLE`.
const GLOBAL: Guid = 0x8c2b_0398_e000_0daa_11d2_93ca_8be4_df61_u128.to_le_bytes();
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`.
const DATABASE: Guid = 0x6f65_670e_d0da_bca3_4596_3d3a_d719_b2cb_u128.to_le_bytes();
/// `EFI_CERT_TYPE_PKCS7_GUID`.
const PKCS7: Guid = 0xa765_5637_7d34_a98a_49ee_68df_4aaf_d29d_u128.to_le_bytes();

/// What varstored says of the mode of secure boot, without a platform key.
const MODE: [(&str, &[u8]); 4] = [
    ("SetupMode", &[1]),
    ("AuditMode", &[0]),
    ("DeployedMode", &[0]),
    ("SecureBoot", &[0]),
];

/// What a variable is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// In UTF-16, without a NUL.
    pub name: Vec<u8>,
    pub vendor: Guid,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub key: Key,
    pub attributes: u32,
    pub data: Vec<u8>,
}

/// All variables, the newest first: varstored lists them in this order.
#[derive(Debug)]
pub struct Store(Vec<Variable>);

/// Why there is no value or name: a status, or the room that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Status(Status),
    TooSmall(u64),
}

impl Key {
    /// The key of an ASCII name.
    pub fn new(name: &str, vendor: Guid) -> Key {
        let name = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        Key { name, vendor }
    }

    fn is(&self, name: &str, vendor: Guid) -> bool {
        *self == Key::new(name, vendor)
    }

    fn is_read_only(&self) -> bool {
        MODE.iter().any(|(name, _)| self.is(name, GLOBAL))
    }

    fn is_platform_key(&self) -> bool {
        self.is("PK", GLOBAL)
    }

    /// Whether it holds keys that anyone may set while there is no platform key.
    fn holds_keys(&self) -> bool {
        let databases = ["db", "dbx", "dbt"];
        self.is("KEK", GLOBAL) || databases.iter().any(|name| self.is(name, DATABASE))
    }
}

impl Store {
    /// A store with what is kept, and what varstored adds at each start.
    pub fn new(mut kept: Vec<Variable>) -> Store {
        for (name, data) in MODE {
            let key = Key::new(name, GLOBAL);
            kept.insert(
                0,
                Variable {
                    key,
                    attributes: BOOT | RUNTIME,
                    data: data.to_vec(),
                },
            );
        }
        Store(kept)
    }

    /// What has to be kept when the domain ends.
    pub fn kept(&self) -> impl Iterator<Item = &Variable> {
        let all = self.0.iter();
        all.filter(|variable| variable.attributes & NON_VOLATILE != 0)
    }

    fn find(&self, key: &Key) -> Option<usize> {
        self.0.iter().position(|variable| variable.key == *key)
    }

    fn used(&self) -> u64 {
        let sizes = self.0.iter();
        sizes
            .map(|v| (v.key.name.len() + v.data.len()) as u64 + OVERHEAD)
            .sum()
    }

    /// `GetVariable` with room for `room` bytes.
    ///
    /// # Errors
    /// With varstored's status.
    pub fn get(&self, key: &Key, room: u64, at_runtime: bool) -> Result<&Variable, Refusal> {
        let found = self.0.iter().find(|v| v.key == *key);
        let found = found.filter(|v| v.visible(at_runtime));
        let found = found.ok_or(Refusal::Status(NOT_FOUND))?;
        fits(found, found.data.len() as u64, room)
    }

    /// `GetNextVariableName` after `key`, or the first; `room` is for the name and
    /// a NUL.
    ///
    /// # Errors
    /// With varstored's status.
    pub fn next(&self, key: &Key, room: u64, at_runtime: bool) -> Result<&Variable, Refusal> {
        let mut rest = self.0.iter();
        if !key.name.is_empty() {
            rest.find(|v| v.key == *key && v.visible(at_runtime))
                .ok_or(Refusal::Status(INVALID_PARAMETER))?;
        }
        let found = rest.find(|v| v.visible(at_runtime));
        let found = found.ok_or(Refusal::Status(NOT_FOUND))?;
        fits(found, found.key.name.len() as u64 + 2, room)
    }

    /// `QueryVariableInfo`: all there is, what is left of it, the largest value.
    ///
    /// # Errors
    /// With varstored's status.
    pub fn space(&self, attributes: u32) -> Result<[u64; 3], Refusal> {
        if attributes & HARDWARE_ERROR != 0 {
            return Err(Refusal::Status(UNSUPPORTED));
        }
        let left = TOTAL_LIMIT.saturating_sub(self.used());
        Ok([TOTAL_LIMIT, left, DATA_LIMIT])
    }

    /// `SetVariable`.
    ///
    /// # Errors
    /// With varstored's status.
    pub fn set(
        &mut self,
        key: &Key,
        data: &[u8],
        attributes: u32,
        at_runtime: bool,
    ) -> Result<(), Status> {
        let append = attributes & APPEND != 0;
        let attributes = attributes & !APPEND;
        check_attributes(attributes)?;
        match self.find(key) {
            Some(at) => self.change(at, data, attributes, append, at_runtime),
            None => self.create(key, data, attributes, at_runtime),
        }
    }

    fn change(
        &mut self,
        at: usize,
        data: &[u8],
        attributes: u32,
        append: bool,
        at_runtime: bool,
    ) -> Result<(), Status> {
        let used = self.used();
        let known = &mut self.0[at];
        known.check_change(at_runtime)?;
        let same = known.attributes == attributes;
        let mut data = data;
        if attributes & BY_TIME != 0 {
            ensure(same, INVALID_PARAMETER)?;
            data = payload(&known.key, data)?;
        }
        if (data.is_empty() && !append) || attributes & (BOOT | RUNTIME) == 0 {
            let authenticated = known.attributes & BY_TIME != 0;
            ensure(same || !authenticated, INVALID_PARAMETER)?;
            self.0.remove(at);
            return Ok(());
        }
        ensure(same, INVALID_PARAMETER)?;
        let before = if append { 0 } else { known.data.len() as u64 };
        let after = used - before + data.len() as u64;
        ensure(after <= TOTAL_LIMIT, OUT_OF_RESOURCES)?;
        if !append {
            known.data.clear();
        }
        known.data.extend_from_slice(data);
        Ok(())
    }

    fn create(
        &mut self,
        key: &Key,
        data: &[u8],
        attributes: u32,
        at_runtime: bool,
    ) -> Result<(), Status> {
        let access = attributes & (BOOT | RUNTIME) != 0;
        ensure(!data.is_empty() && access, NOT_FOUND)?;
        let lasting = NON_VOLATILE | RUNTIME;
        ensure(
            !at_runtime || attributes & lasting == lasting,
            INVALID_PARAMETER,
        )?;
        if key.holds_keys() || key.is_platform_key() {
            let only = NON_VOLATILE | BOOT | RUNTIME | BY_TIME;
            ensure(attributes == only, INVALID_PARAMETER)?;
        }
        let mut data = data;
        if attributes & BY_TIME != 0 {
            data = payload(key, data)?;
        }
        ensure(!data.is_empty(), NOT_FOUND)?;
        let size = (key.name.len() + data.len()) as u64 + OVERHEAD;
        ensure(self.used() + size <= TOTAL_LIMIT, OUT_OF_RESOURCES)?;
        let new = Variable {
            key: key.clone(),
            attributes,
            data: data.to_vec(),
        };
        self.0.insert(0, new);
        Ok(())
    }
}

impl Variable {
    fn visible(&self, at_runtime: bool) -> bool {
        !at_runtime || self.attributes & RUNTIME != 0
    }

    fn check_change(&self, at_runtime: bool) -> Result<(), Status> {
        ensure(self.visible(at_runtime), INVALID_PARAMETER)?;
        let lasting = self.attributes & NON_VOLATILE != 0;
        ensure(!at_runtime || lasting, WRITE_PROTECTED)?;
        ensure(!self.key.is_read_only(), WRITE_PROTECTED)
    }
}

fn ensure(truth: bool, status: Status) -> Result<(), Status> {
    if truth { Ok(()) } else { Err(status) }
}

fn fits(found: &Variable, size: u64, room: u64) -> Result<&Variable, Refusal> {
    if room < size {
        return Err(Refusal::TooSmall(size));
    }
    Ok(found)
}

fn check_attributes(attributes: u32) -> Result<(), Status> {
    let has = |attribute| attributes & attribute != 0;
    ensure(!has(HARDWARE_ERROR), INVALID_PARAMETER)?;
    ensure(!has(BY_COUNT), UNSUPPORTED)?;
    ensure(!(has(BY_TIME) && has(ENHANCED)), INVALID_PARAMETER)?;
    ensure(!has(ENHANCED), UNSUPPORTED)?;
    ensure(!has(RUNTIME) || has(BOOT), INVALID_PARAMETER)
}

/// The value behind the header `EFI_VARIABLE_AUTHENTICATION_2`, UEFI 2.11 §8.2.6:
/// a time of 16 bytes, which ends in nine that must be zero, and
/// `WIN_CERTIFICATE_UEFI_GUID` with its length at 16, its type at 22, the type of
/// the signature at 24 and the signature at 40.
fn payload<'a>(key: &Key, data: &'a [u8]) -> Result<&'a [u8], Status> {
    const UEFI_GUID: [u8; 2] = [0xf1, 0x0e];
    let parsed = || {
        let (header, rest) = data.split_first_chunk::<40>()?;
        let length = u32::from_le_bytes(*header[16..].first_chunk()?);
        let zeros = header[7..16].iter().all(|byte| *byte == 0);
        let right = zeros && header[22..24] == UEFI_GUID && header[24..] == PKCS7;
        let value = rest.get(usize::try_from(length).ok()?.checked_sub(24)?..);
        value.filter(|_| right && key.holds_keys())
    };
    parsed().ok_or(SECURITY_VIOLATION)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
