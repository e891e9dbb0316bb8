//! Programs that older compilers made: each runtime since has to load them, and they compute what they computed then.
//!
//! `kept/README.md` tells where the files come from.
#![cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]

mod common;

use std::ffi::{CString, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::watchdog::Watchdog;
use nnc_runtime::artefact::{ABI_VERSION, Imprint, LoadError, OLDEST_ABI_VERSION, WITHOUT};
use nnc_runtime::{InputRef, Pool, Program, Session};

/// Extents of the picture that a file makes of one a third as wide and high.
const WIDTH: usize = 36;

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kept").join(name)
}

fn input() -> Vec<f32> {
    (0..WIDTH * WIDTH / 9).map(|i| (i % 31) as f32 / 8.0 - 1.5).collect()
}

/// What a version of a file computed when it was made.
fn expected(abi: u32, target: &str) -> Vec<u8> {
    std::fs::read(kept(&format!("abi{abi}.{target}.f32"))).unwrap()
}

fn results(program: &Program, threads: usize) -> Vec<u8> {
    let _watchdog = Watchdog::seconds(60);
    let mut session = Session::new(program, &Pool::new(threads).unwrap()).unwrap();
    let x = input();
    session.run(&[InputRef::new(&x)]).unwrap().bytes(0).unwrap().to_vec()
}

#[test]
fn there_is_a_file_for_each_abi_that_is_read() {
    for abi in OLDEST_ABI_VERSION..=ABI_VERSION {
        assert!(kept(&format!("abi{abi}.so")).exists(), "tests/kept/README.md says how to make abi{abi}.so");
    }
}

#[test]
fn who_made_them_is_told_on_any_processor() {
    let about = Imprint::of_file(kept("abi8.so")).unwrap();
    let targets: Vec<&str> = about.versions.iter().map(|(target, _)| target.as_str()).collect();
    assert_eq!((about.made_by.as_str(), about.abi_version), ("nnc 0.1.0", 8));
    assert_eq!(targets, ["x86-64-v3", "x86-64-v2"]);
    assert_eq!(about.versions[1].1.to_string(), "sse3, ssse3, sse4.1, sse4.2, popcnt");
    assert!(matches!(Imprint::of_file(kept("README.md")), Err(LoadError::NotAnArtefact)));
}

#[test]
fn programs_of_before_compute_what_they_computed() {
    for abi in OLDEST_ABI_VERSION..=ABI_VERSION {
        let path = kept(&format!("abi{abi}.so"));
        let file: &'static [u8] = std::fs::read(&path).unwrap().leak();
        // SAFETY: nnc made the file, and nobody changes it.
        let programs = unsafe {
            [Program::load(&path), Program::from_bytes(file), Program::from_static(file), Program::map(&path)]
        };
        for program in programs {
            let program = match program {
                Ok(program) => program,
                // It was made for processors that have been common for long, not for all.
                Err(LoadError::MissingFeatures { missing, .. }) => {
                    eprintln!("abi{abi}.so is not run: this processor lacks {missing}");
                    continue;
                }
                Err(error) => panic!("abi{abi}.so: {error}"),
            };
            assert_eq!(program.inputs()[0].name, "input");
            assert_eq!(program.outputs()[0].shape, [1, 1, WIDTH, WIDTH]);
            for threads in [1, 2] {
                let found = results(&program, threads);
                assert!(found == expected(abi, &program.desc().target), "{}", program.desc().target);
            }
        }
    }
}

/// The same in a process where programs are loaded as if the processor had no AVX2.
#[test]
fn their_versions_for_lesser_processors_do_too() {
    if std::env::var_os(WITHOUT).is_some() {
        return;
    }
    let name = "programs_of_before_compute_what_they_computed";
    let again = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact"])
        .env(WITHOUT, "avx2")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && told.contains("1 passed"), "{told}");
    assert!(
        expected(ABI_VERSION, "x86-64-v2") != expected(ABI_VERSION, "x86-64-v3"),
        "they round differently"
    );
}

type Run = unsafe extern "C" fn(*const *const c_void, *const *mut c_void, *mut c_void) -> c_int;

#[test]
fn c_hosts_run_them_as_they_did() {
    for abi in OLDEST_ABI_VERSION..=ABI_VERSION {
        let path = CString::new(kept(&format!("abi{abi}.so")).to_str().unwrap()).unwrap();
        // SAFETY: nnc made the file; it has no initialisers.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!library.is_null());
        // SAFETY: the library is open, and has these symbols.
        let symbol = |name: &std::ffi::CStr| unsafe { libc::dlsym(library, name.as_ptr()) };
        let (x, mut y) = (input(), vec![0.0_f32; WIDTH * WIDTH]);
        // SAFETY: the symbols have the types that the file's header gave them, the buffers have the sizes of the ports.
        let (version, status) = unsafe {
            let bytes = *symbol(c"kept_workspace_bytes").cast::<u64>() as usize;
            let mut workspace = vec![0_u8; bytes + 64];
            let start = workspace.as_ptr().align_offset(64);
            let run = std::mem::transmute::<*mut c_void, Run>(symbol(c"kept_run"));
            let memory = workspace[start..].as_mut_ptr().cast();
            let status = run([x.as_ptr().cast()].as_ptr(), [y.as_mut_ptr().cast()].as_ptr(), memory);
            (*symbol(c"kept_abi_version").cast::<u32>(), status)
        };
        assert_eq!(version, abi);
        let found: Vec<u8> = y.iter().flat_map(|y| y.to_le_bytes()).collect();
        let known = ["x86-64-v3", "x86-64-v2"].map(|target| expected(abi, target));
        assert!(status == 2 || status == 0 && known.contains(&found), "status {status}");
    }
}
