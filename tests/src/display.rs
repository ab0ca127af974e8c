//! QEMU's VGA card: there is no graphics output protocol, so Linux has no console
//! on it until its own driver is loaded; then text is to be seen.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use xtask::qemu::{Files, Machine};
use xtask::vm::Vm;

use crate::bench::{Bench, Release, Root, System, TIME_LIMIT};
use crate::monitor::{self, Monitor};

const SYSTEM: System = System {
    release: Release::BookwormGeneric,
    root: Root::Initrd,
    modules: &["bochs"],
    programs: None,
};
const READY: &str = "display: ready";
/// Waits for the driver's frame buffer, then fills the screen with text and
/// stays, for somebody looks at it.
const SCRIPT: &str = "while ! [ -e /dev/fb0 ]; do sleep 1; done\n\
    for line in 1 2 3 4 5 6 7 8 9 10; do echo 'seen on the screen' > /dev/tty0; done\n\
    sleep 1; echo 'display: ready' > /dev/ttyS0; sleep 1000\n";
/// Fewer lit pixels than ten lines of text have.
const LIT: usize = 2000;

/// Boots machine `model` with the card and looks at its screen.
///
/// # Errors
/// When it is dark, or all of it is lit.
pub fn run(bench: &Bench, model: &str) -> Result<()> {
    let name = format!("display-{model}");
    let files = Files::create(&format!("{name}-files"))?;
    let socket = monitor::socket(files.directory());
    let picture = files.directory().join("screen.ppm");
    let device = ["-device", "VGA"].map(Into::into).into_iter();
    let mut machine = Machine {
        model: model.into(),
        extra: device
            .chain(monitor::arguments(&socket).map(Into::into))
            .collect(),
        ..bench.machine()
    };
    machine.command_line = format!("console=tty0 {}", machine.command_line);
    bench.observe(&name, machine, (SYSTEM, SCRIPT), |vm| {
        look(vm, &socket, &picture)
    })?;
    files.remove()
}

fn look(vm: &mut Vm, socket: &Path, picture: &Path) -> Result<()> {
    vm.wait_for(TIME_LIMIT, |console| console.contains(READY))?;
    Monitor::connect(socket)?.run(&format!("screendump {}", picture.display()))?;
    let (pixels, lit) = brightness(&fs::read(picture)?)?;
    ensure!(
        (LIT..pixels / 2).contains(&lit),
        "expected text on the screen, found {lit} of {pixels} pixels lit"
    );
    Ok(())
}

/// How many pixels a picture has, and how many of them are not black: a binary
/// portable pixmap, ppm(5).
fn brightness(picture: &[u8]) -> Result<(usize, usize)> {
    let mut lines = picture.splitn(4, |byte| *byte == b'\n');
    let head = [lines.next(), lines.next(), lines.next()];
    let pixels = lines.next().context("the picture has no pixels")?;
    ensure!(head[0] == Some(b"P6"), "not a binary pixmap: {head:?}");
    let pixels = pixels.chunks_exact(3);
    let count = pixels.len();
    Ok((count, pixels.filter(|pixel| *pixel != [0; 3]).count()))
}

#[cfg(test)]
mod tests {
    use super::brightness;

    #[test]
    fn lit_pixels_are_counted() {
        let picture = b"P6\n2 2\n255\n\0\0\0\0\0\x01\xff\xff\xff\0\0\0";
        assert_eq!(brightness(picture).unwrap(), (4, 2));
        assert!(brightness(b"P5\n1 1\n255\n\0").is_err());
    }
}
