//! A key of our own, lists of keys, and writes that are signed with it (UEFI 2.11
//! §8.2.2, §32.4.1).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xtask::{host, process};

use crate::packages::read;

/// `EFI_CERT_X509_GUID`, a5c059a1-94e4-4aa7-87b5-ab155c2bf072.
const X509: [u8; 16] = [
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];
/// `EFI_CERT_TYPE_PKCS7_GUID`, 4aafd29d-68df-49ee-8aa9-347d375665a7.
const PKCS7: [u8; 16] = [
    0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7,
];
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`, d719b2cb-3d3a-4596-a3bc-dad00e67656f.
pub const SECURITY_DATABASE: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];

/// Non-volatile, accessible always, signed with a time.
pub const SIGNED: u32 = 0x27;

/// Bytes of a PKCS #7 envelope before what it holds: UEFI wants none.
const ENVELOPE: usize = 19;

/// A key and its certificate, as files.
#[derive(Debug)]
pub struct Signer {
    key: PathBuf,
    certificate: PathBuf,
    work: PathBuf,
}

impl Signer {
    /// A new one in `directory`.
    ///
    /// # Errors
    /// When OpenSSL is missing or fails.
    pub fn create(directory: &Path) -> Result<Signer> {
        host::require(&[host::OPENSSL])?;
        let signer = Signer {
            key: directory.join("key.pem"),
            certificate: directory.join("certificate.pem"),
            work: directory.join("signed"),
        };
        let mut command = host::OPENSSL.command();
        command.args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9000",
        ]);
        command.args(["-subj", "/CN=OVMF-lite test", "-keyout"]);
        command
            .arg(&signer.key)
            .arg("-out")
            .arg(&signer.certificate);
        process::text(&mut command)?;
        Ok(signer)
    }

    /// A list with the certificate and an owner whose GUID is all `owner`.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn list(&self, owner: u8) -> Result<Vec<u8>> {
        let mut command = host::OPENSSL.command();
        command.args(["x509", "-outform", "DER", "-in"]);
        let certificate = process::capture(command.arg(&self.certificate))?;
        let size = u32::try_from(16 + certificate.len())?;
        let mut list = X509.to_vec();
        for number in [28 + size, 0, size] {
            list.extend(number.to_le_bytes());
        }
        list.extend([owner; 16]);
        list.extend(certificate);
        Ok(list)
    }

    /// `data` for the variable `name` of `vendor`, signed, with attributes
    /// [`SIGNED`] and the last day of `year` as its time.
    ///
    /// # Errors
    /// When OpenSSL fails, or its envelope is not as it should be.
    pub fn sign(&self, name: &str, vendor: [u8; 16], year: u16, data: &[u8]) -> Result<Vec<u8>> {
        let mut time = [0; 16];
        time[..2].copy_from_slice(&year.to_le_bytes());
        time[2..4].copy_from_slice(&[12, 31]);
        let mut signed: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        signed.extend(vendor);
        signed.extend(SIGNED.to_le_bytes());
        signed.extend(time);
        signed.extend(data);
        std::fs::write(&self.work, signed)?;
        let mut command = host::OPENSSL.command();
        command.args(["smime", "-sign", "-binary", "-noattr", "-md", "sha256"]);
        command.args(["-outform", "DER", "-out"]);
        let output = self.work.with_extension("p7s");
        command.arg(&output).arg("-in").arg(&self.work);
        command.arg("-signer").arg(&self.certificate);
        process::text(command.arg("-inkey").arg(&self.key))?;
        let envelope = read(&output)?;
        let signature = envelope.get(ENVELOPE..).context("OpenSSL signed nothing")?;

        let mut write = time.to_vec();
        write.extend(u32::try_from(24 + signature.len())?.to_le_bytes());
        write.extend(0x0200_u16.to_le_bytes());
        write.extend(0x0ef1_u16.to_le_bytes());
        write.extend(PKCS7);
        write.extend(signature);
        write.extend(data);
        Ok(write)
    }
}
