//! Virtual machines as tests. Only `cargo xtask test` runs them: they need QEMU,
//! Debian's kernels and a built firmware, so a plain `cargo test` ignores them.

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use ovmf_lite_tests::bench::{Bench, Release};
use ovmf_lite_tests::linux::{Case, Entry};
use ovmf_lite_tests::uki::Maker;
use ovmf_lite_tests::{
    budget, cold, compare, devices, display, efivarfs, guest_application, hotplug, judges, kexec,
    lifecycle, linux, microvm, phases, pvh_loader, reference, refusals, tpm, trace, uefi_vars, uki,
    variable_space, variable_tools, variables, xen,
};
use xtask::debian::Suite;
use xtask::qemu::Wrapping;
use xtask::test::Session;

fn main() {
    let mut arguments = Arguments::from_args();
    // Half of a guest's time is QEMU's other threads': more in parallel only
    // brings more of them near their time limits.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let all = Session::current().is_some_and(|session| session.all);
    libtest_mimic::run(&arguments, trials(all)).exit();
}

/// All of them; the longest come first, so that at the end both processors are busy.
fn trials(all: bool) -> Vec<Trial> {
    let mut trials: Vec<_> = xen_trials(all).collect();
    trials.extend(linux::cases(all).into_iter().map(linux_trial));
    trials.extend(application_trials());
    trials.extend(lifecycle_trials());
    trials.extend(device_trials());
    trials.extend(image_trials());
    trials.extend(judge_trials());
    trials.extend(variable_trials(all));
    trials.extend(uefi_vars_trials(all));
    trials.extend(trace_trials());
    trials.extend(clock_trials());
    trials.extend(reset_trials());
    trials.extend(pflash_reset_trials());
    trials.extend(refusal_trials());
    trials.extend(little_trials());
    trials.extend(["pc", "q35", "microvm"].map(|model| {
        let run = move |bench: &Bench| phases::variables(bench, model);
        trial(format!("phases-variables-{model}"), run)
    }));
    trials.push(trial(
        "phases-variables-flash".into(),
        phases::variables_with_flash,
    ));
    trials.push(trial("phases-shown".into(), phases::shown));
    trials.push(trial("phases-moved-once".into(), phases::moved_once));
    trials.extend(cold_trials());
    trials.push(trial("budget-held".into(), budget::held));
    trials.push(trial("budget-waste".into(), budget::waste));
    trials
}

/// Starts that unpack no more of the firmware than they should.
fn cold_trials() -> Vec<Trial> {
    let starts = [
        (Release::Bullseye, "q35"),
        (Release::Bookworm, "pc"),
        (Release::Trixie, "q35"),
        (Release::Sid, "pc"),
    ];
    let starts = starts.map(|(release, model)| {
        trial(format!("cold-{model}-{}", release.linux()), move |bench| {
            cold::stays_packed(bench, release, model)
        })
    });
    let traced = trial("cold-traced".into(), cold::is_unpacked);
    starts.into_iter().chain([traced]).collect()
}

/// The application that tests the firmware from inside.
fn application_trials() -> Vec<Trial> {
    let places = [("q35", "128M"), ("pc", "6G"), ("microvm", "256M")];
    let runs = places.map(|(model, memory)| {
        let run = move |bench: &Bench| guest_application::run(bench, model, memory);
        trial(format!("guest-application-{model}"), run)
    });
    let others = [
        trial(
            "guest-application-initrd".into(),
            guest_application::run_with_initrd,
        ),
        trial("guest-application-ovmf".into(), |bench| {
            reference::run(bench, Suite::Bookworm)
        }),
        trial("exception".into(), guest_application::fault),
        trial("keyboard".into(), guest_application::keys),
        trial("watchdog".into(), |bench| {
            guest_application::reset(bench, "q35", Wrapping::Bios, "watchdog")
        }),
    ];
    // Bits of the error code: present, write, execute (Intel SDM vol. 3 §4.7).
    let violations = [("read", 0), ("write", 3), ("execute", 0x11)];
    let violations = violations.map(|(what, reason)| {
        trial(format!("exception-{what}"), move |bench| {
            guest_application::violate(bench, what, reason)
        })
    });
    runs.into_iter().chain(others).chain(violations).collect()
}

/// Boots that follow each other, and one by another way.
fn lifecycle_trials() -> Vec<Trial> {
    let resets = ["acpi", "efi"].map(|method| {
        trial(format!("reset-{method}"), move |bench| {
            lifecycle::reset(bench, method)
        })
    });
    let kexecs = [Release::Bookworm, Release::Trixie].map(|release| {
        trial(format!("kexec-{}", release.linux()), move |bench| {
            kexec::run(bench, release)
        })
    });
    let others = [
        trial("ten-boots".into(), lifecycle::ten_boots),
        trial("fw-cfg-by-port".into(), lifecycle::by_port),
    ];
    resets.into_iter().chain(kexecs).chain(others).collect()
}

/// What is plugged into the machines, and how it looks under OVMF.
fn device_trials() -> Vec<Trial> {
    type Run = fn(&Bench, &str) -> anyhow::Result<()>;
    let runs: [(_, Run); 4] = [
        ("devices", devices::run),
        ("hotplug", hotplug::run),
        ("display", display::run),
        ("compare", compare::run),
    ];
    let on_both = runs.into_iter().flat_map(|(name, run)| {
        ["pc", "q35"].map(|model| trial(format!("{name}-{model}"), move |bench| run(bench, model)))
    });
    let microvm = [("mmio", false), ("pci", true)].map(|(bus, pci)| {
        trial(format!("devices-microvm-{bus}"), move |bench| {
            microvm::devices(bench, pci)
        })
    });
    let interfaces = [("pc", "tpm-tis"), ("q35", "tpm-tis"), ("q35", "tpm-crb")];
    let tpm = interfaces.map(|(model, interface)| {
        trial(format!("{interface}-{model}"), move |bench| {
            tpm::run(bench, model, interface)
        })
    });
    on_both.chain(microvm).chain(tpm).collect()
}

/// Unified kernel images.
fn image_trials() -> impl Iterator<Item = Trial> {
    let images = [
        ("pc", Entry::Bios, Maker::Objcopy),
        ("pc", Entry::Pvh, Maker::Ukify),
        ("q35", Entry::Pvh, Maker::Objcopy),
        ("q35", Entry::Bios, Maker::Ukify),
    ];
    images.into_iter().map(|(model, entry, maker)| {
        trial(format!("uki-{}-{model}", maker.name()), move |bench| {
            uki::run(bench, model, entry, maker)
        })
    })
}

/// EFI programs of others.
fn judge_trials() -> Vec<Trial> {
    let grub = ["pc", "q35"].map(|model| {
        trial(format!("judge-grub-{model}"), move |bench| {
            judges::grub(bench, model)
        })
    });
    let others = [
        trial("judge-memtest86+".into(), judges::memtest),
        trial("judge-ipxe".into(), judges::ipxe),
        trial("judge-systemd-boot".into(), judges::systemd_boot),
        trial("judge-hash-tool".into(), judges::hash_tool),
        trial("judge-hello-world".into(), judges::hello_world),
        trial("judge-read-vars".into(), judges::read_vars),
    ];
    grub.into_iter().chain(others).collect()
}

/// What is no kernel, or no description of a machine.
fn refusal_trials() -> Vec<Trial> {
    let no_kernels: [(_, &[u8], _); 2] = [
        ("command-empty", b"", "the file is empty"),
        ("command-text", b"Not a kernel.\n", "not a PE image"),
    ];
    let commands = no_kernels.map(|(name, content, words)| {
        trial(name.into(), move |_| {
            refusals::by_command(name, content, words)
        })
    });
    let files = refusals::REFUSALS.map(|one| trial(one.name.into(), move |b| one.run(b)));
    let loaders = pvh_loader::CASES.map(|one| trial(one.name.into(), move |b| one.run(b)));
    let scripts = refusals::SCRIPTS.map(|(name, content, words)| {
        trial(name.into(), move |bench| {
            refusals::script(bench, name, &content(), words)
        })
    });
    let all = commands.into_iter().chain(files);
    all.chain(loaders).chain(scripts).collect()
}

/// Machines that have too little of something.
fn little_trials() -> Vec<Trial> {
    let memory = [16, 32, 64].map(|mebibytes| {
        trial(format!("refused-{mebibytes}M"), move |bench| {
            refusals::too_little_memory(bench, mebibytes)
        })
    });
    let others = [
        trial("refused-nothing".into(), refusals::nothing_to_boot),
        trial(
            "refused-large-kernel".into(),
            refusals::kernel_larger_than_memory,
        ),
        trial("refused-machine".into(), refusals::unknown_machine),
        trial("refused-no-fw-cfg".into(), refusals::no_fw_cfg),
    ];
    memory.into_iter().chain(others).collect()
}

/// Guests of a real Xen, which runs in QEMU itself.
fn xen_trials(all: bool) -> impl Iterator<Item = Trial> {
    let cases = xen::cases(all).into_iter();
    cases.map(|case| trial(case.name(), move |_| case.run()))
}

/// Variables in flash: kept, shared with OVMF, and written when QEMU is killed.
fn variable_trials(all: bool) -> Vec<Trial> {
    let sets = [
        ("OVMF_CODE.fd", "OVMF_VARS.fd"),
        ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
    ];
    let survive = sets.map(|(_, name)| {
        trial(format!("variables-survive-{name}"), move |bench| {
            variables::survive(bench, name)
        })
    });
    let shared = sets.map(|(code, name)| {
        trial(format!("variables-shared-{name}"), move |bench| {
            variables::shared_with_ovmf(bench, code, name)
        })
    });
    let killed = trial("variables-killed".into(), move |bench| {
        variables::killed(bench, if all { 50 } else { 3 })
    });
    let keys = trial("variables-keys".into(), variables::keys);
    let tools = trial("variables-tools".into(), variable_tools::run);
    let space = trial("variables-space".into(), |bench| {
        variable_space::run(bench, "OVMF_VARS_4M.fd")
    });
    // The source of Linux, 130 MiB, is fetched for them.
    let selftests = all.then(|| trial("variables-selftests".into(), efivarfs::run));
    let others = [killed, keys, tools, space];
    let all = survive.into_iter().chain(shared).chain(others);
    all.chain(selftests).collect()
}

/// Variables that QEMU keeps. By default Linux does everything on one machine.
fn uefi_vars_trials(all: bool) -> Vec<Trial> {
    let name = |what: &str, model: &str| format!("variables-uefi-vars-{what}-{model}");
    let models = if all { &["q35", "pc"][..] } else { &["q35"] };
    let mut trials = Vec::new();
    for model in models {
        trials.push(trial(name("keys", model), move |bench| {
            uefi_vars::keys(bench, model)
        }));
        if !all {
            continue;
        }
        trials.push(trial(name("survive", model), move |bench| {
            uefi_vars::survive(bench, model)
        }));
        for (way, reads_memory) in [("dma", true), ("pio", false)] {
            trials.push(trial(name(way, model), move |bench| {
                uefi_vars::application(bench, model, reads_memory)
            }));
        }
    }
    trials
}

/// The firmware's own words on the command line.
fn trace_trials() -> Vec<Trial> {
    Vec::from([
        trial("trace-calls".into(), trace::calls),
        trial("trace-application".into(), trace::application),
        trial("deny-tolerated".into(), trace::tolerated),
        trial("deny-at-run-time".into(), trace::at_run_time),
        trial("deny-mandatory".into(), trace::mandatory),
    ])
}

/// The host's clock in two centuries, on a leap day and on the last of a year.
fn clock_trials() -> impl Iterator<Item = Trial> {
    let bases = [
        ("pc", "1999-05-06T07:08:09"),
        ("q35", "2031-12-31T23:59:30"),
        ("q35", "2000-02-29T12:00:00"),
        ("microvm,rtc=on", "1999-12-31T23:59:40"),
    ];
    bases.into_iter().map(|(model, base)| {
        let machine = model.replace([',', '='], "-");
        trial(format!("clock-{machine}-{base}"), move |bench| {
            guest_application::clock(bench, model, base)
        })
    })
}

/// Every kind of reset, while there are boot services and after. A microvm
/// without ACPI has nothing that could end it.
fn reset_trials() -> impl Iterator<Item = Trial> {
    let models = ["pc", "q35", "microvm", "microvm,acpi=off"].into_iter();
    models.flat_map(|model| {
        ["reset=cold", "reset=warm", "reset=shutdown"]
            .into_iter()
            .filter(move |kind| !(model.ends_with("acpi=off") && kind.ends_with("shutdown")))
            .flat_map(|kind| [kind.to_owned(), format!("{kind} late")])
            .map(move |words| {
                let name = format!("{words}-{model}").replace([' ', '=', ','], "-");
                trial(name, move |bench| {
                    guest_application::reset(bench, model, Wrapping::Bios, &words)
                })
            })
    })
}

/// A reset reaches the reset vector in flash, too.
fn pflash_reset_trials() -> impl Iterator<Item = Trial> {
    ["pc", "q35"].into_iter().map(|model| {
        trial(format!("reset-cold-pflash-{model}"), move |bench| {
            guest_application::reset(bench, model, Wrapping::Pflash, "reset=cold")
        })
    })
}

fn linux_trial(case: Case) -> Trial {
    trial(case.name(), move |bench| case.run(bench))
}

fn trial(name: String, run: impl FnOnce(&Bench) -> anyhow::Result<()> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || {
        let Some(session) = Session::current() else {
            return Ok(Completion::ignored_with("needs QEMU: cargo xtask test"));
        };
        run(&Bench::new(session)).map_err(|error| Failed::from(format!("{error:#}")))?;
        Ok(Completion::Completed)
    })
}
