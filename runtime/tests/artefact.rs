//! Which files the loader refuses. The file here is complete but for one thing: what it has for code must never run.
//!
//! Miri would take hours for the checksums of these files; what parses them is tested in the crate.
#![cfg(not(miri))]

use std::path::Path;

use nnc_runtime::Program;
use nnc_runtime::abi::{Arg, CpuFeatures, Denormals, ElemType, Port, ProgramDesc, Region, Step};
use nnc_runtime::artefact::{self, HEADER_BYTES, HEADER_OFFSET, Header, LoadError, Machine, versions};

const TEXT: usize = 0x10000;
const CONSTS: usize = 0x20000;

fn desc() -> ProgramDesc {
    ProgramDesc {
        target: "baseline".to_owned(),
        features: CpuFeatures::default(),
        denormals: Denormals::Flush,
        index_checks: Vec::new(),
        inputs: vec![],
        outputs: vec![],
        arena_bytes: 64,
        scratch_bytes: 64,
        const_bytes: 100,
        functions: 2,
        steps: vec![Step { name: "only".to_owned(), func: 1, units: 1, args: vec![] }],
        strips: vec![],
        repeats: vec![],
    }
}

fn header() -> Header {
    Header {
        machine: Machine::host().unwrap(),
        versions: 1,
        functions: 2,
        table: 800,
        program: 1024..1024 + versions::write(&[&desc()]).unwrap().len() as u64,
        made_by: "nnc 0.1.0".into(),
        text: TEXT as u64..TEXT as u64 + 32,
        consts: CONSTS as u64..CONSTS as u64 + 100,
    }
}

/// A file that loads, or would if not for `change`.
fn file(change: impl FnOnce(&mut Header, &mut ProgramDesc, &mut Vec<u8>)) -> Vec<u8> {
    let (mut header, mut desc) = (header(), desc());
    let mut file = vec![0; CONSTS + 100];
    file[..4].copy_from_slice(b"\x7fELF");
    file[800..804].copy_from_slice(&0_u32.to_le_bytes());
    file[804..808].copy_from_slice(&16_u32.to_le_bytes());
    change(&mut header, &mut desc, &mut file);
    let encoded = versions::write(&[&desc]).unwrap();
    if desc != self::desc() {
        header.program = 1024..1024 + encoded.len() as u64;
    }
    file[1024..1024 + encoded.len()].copy_from_slice(&encoded);
    let loaded = file.len();
    assert!(artefact::header::seal(&mut file, loaded, &header));
    file
}

fn load(file: &[u8]) -> Result<Program, LoadError> {
    // SAFETY: the program is never run.
    unsafe { Program::from_bytes(file) }
}

fn refusal(file: &[u8]) -> String {
    load(file).unwrap_err().to_string()
}

fn load_path(path: &Path) -> Result<Program, LoadError> {
    // SAFETY: the program is never run.
    unsafe { Program::load(path) }
}

fn map(path: &Path) -> Result<Program, LoadError> {
    // SAFETY: the program is never run, and its file stays as it is.
    unsafe { Program::map(path) }
}

/// Loads bytes that live as long as the process, which begin so many bytes behind a page.
fn load_static(file: &[u8], offset: usize) -> Result<Program, LoadError> {
    let memory = vec![0_u8; file.len() + offset + nnc_runtime::PAGE].leak();
    let start = memory.as_ptr().addr().next_multiple_of(nnc_runtime::PAGE) - memory.as_ptr().addr() + offset;
    memory[start..start + file.len()].copy_from_slice(file);
    // SAFETY: the program is never run.
    unsafe { Program::from_static(&memory[start..start + file.len()]) }
}

#[test]
fn a_complete_file_loads_from_memory_and_from_disk() {
    let file = file(|_, _, _| {});
    assert_eq!(load(&file).unwrap().desc(), &desc());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program.so");
    std::fs::write(&path, &file).unwrap();
    for program in [load_path(&path), map(&path), load_static(&file, 0), load_static(&file, 16)] {
        let program = program.unwrap();
        assert_eq!(program.desc(), &desc());
        assert_eq!(program.constants().len(), 100);
    }
}

#[test]
fn constants_of_the_host_are_used_where_they_lie_if_they_are_aligned() {
    let file = file(|_, _, _| {});
    let mapped =
        |program: Program| program.constants().pieces().iter().map(|p| p.block.mapped()).sum::<u64>();
    assert_eq!(mapped(load_static(&file, 0).unwrap()), 0);
    assert_eq!(mapped(load_static(&file, 64).unwrap()), 0);
    assert_eq!(mapped(load_static(&file, 16).unwrap()), file.len().next_multiple_of(4096) as u64);
}

#[test]
fn what_is_included_lies_at_a_page() {
    static HERE: &[u8] = nnc_runtime::include_program!("artefact.rs");
    assert_eq!(HERE, include_bytes!("artefact.rs"));
    assert!(HERE.as_ptr().addr().is_multiple_of(4096));
}

#[test]
fn what_is_mapped_is_verified_but_for_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program.so");
    let refused = |file: &[u8]| {
        std::fs::write(&path, file).unwrap();
        map(&path).unwrap_err()
    };
    let whole = file(|_, _, _| {});
    for len in [0, 600, HEADER_OFFSET + HEADER_BYTES, whole.len() - 1] {
        assert!(
            matches!(refused(&whole[..len]), LoadError::NotAnArtefact | LoadError::Length { .. }),
            "{len}"
        );
    }
    let with = |at: usize, byte: u8| {
        let mut file = whole.clone();
        file[at] = byte;
        file
    };
    assert!(matches!(refused(&with(HEADER_OFFSET + 8, 9)), LoadError::FormatVersion { found: 9, .. }));
    assert!(matches!(refused(&with(HEADER_OFFSET + 12, 99)), LoadError::AbiVersion { found: 99, .. }));
    assert!(matches!(refused(&with(HEADER_OFFSET + 24, 3)), LoadError::Machine { .. }));
    assert!(matches!(refused(&with(1024 + 24, 0xff)), LoadError::Description(_)));
    assert!(matches!(refused(&with(804, 32)), LoadError::Inconsistent("a function outside its code")));
    assert!(matches!(map(&folder.path().join("missing")).unwrap_err(), LoadError::Read { .. }));
    assert!(matches!(map(folder.path()).unwrap_err(), LoadError::NotAnArtefact));
    std::fs::write(&path, with(CONSTS + 50, 1)).unwrap();
    assert_eq!(map(&path).unwrap().desc(), &desc(), "the constants are not looked at");
}

#[test]
fn other_files_are_refused() {
    let not = "this is not a program compiled by nnc; compile the model with `nnc compile`";
    assert_eq!(refusal(b""), not);
    assert_eq!(refusal(b"\x7fELF"), not);
    assert_eq!(refusal(&[0; 4096]), not);
    let mut no_elf = file(|_, _, _| {});
    no_elf[0] = 0;
    assert_eq!(refusal(&no_elf), not);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(load_path(folder.path()).unwrap_err().to_string(), not);
    let program = std::env::current_exe().unwrap();
    assert_eq!(load_path(&program).unwrap_err().to_string(), not);
    let missing = folder.path().join("missing.so");
    assert!(load_path(&missing).unwrap_err().to_string().ends_with("missing.so\""));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = file(|_, _, _| {});
    let lengths = (0..1200).chain((1200..file.len()).step_by(997)).chain([file.len() - 1]);
    for len in lengths {
        match load(&file[..len]).unwrap_err() {
            LoadError::NotAnArtefact => assert!(len < HEADER_OFFSET + 24, "{len}"),
            LoadError::Length { expected, found } => {
                assert_eq!((expected, found), (file.len() as u64, len as u64));
            }
            other => panic!("{len}: {other}"),
        }
    }
    let longer = [&file[..], &[0]].concat();
    assert!(matches!(load(&longer), Err(LoadError::Length { .. })));
}

#[test]
fn a_file_cut_on_disk_is_refused() {
    let file = file(|_, _, _| {});
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program.so");
    for len in [0, 100, 600, 700, 5000, file.len() - 1] {
        std::fs::write(&path, &file[..len]).unwrap();
        match load_path(&path).unwrap_err() {
            LoadError::NotAnArtefact => assert!(len < HEADER_OFFSET + 24),
            LoadError::Length { found, .. } => assert_eq!(found, len as u64),
            other => panic!("{len}: {other}"),
        }
    }
}

#[test]
fn a_bit_changed_anywhere_in_what_is_used_is_refused() {
    let file = file(|_, _, _| {});
    let places = (0..4)
        .chain(HEADER_OFFSET..HEADER_OFFSET + HEADER_BYTES)
        .chain((800..1100).step_by(7))
        .chain((TEXT..TEXT + 40).step_by(3))
        .chain([TEXT - 1, CONSTS - 1, CONSTS, CONSTS + 50, file.len() - 1]);
    for at in places {
        let mut file = file.clone();
        file[at] ^= 1 << (at % 8);
        let error = load(&file).unwrap_err();
        match at.wrapping_sub(HEADER_OFFSET) {
            0..8 => assert!(matches!(error, LoadError::NotAnArtefact), "{at}: {error}"),
            8..12 => assert!(matches!(error, LoadError::FormatVersion { .. }), "{at}: {error}"),
            16..24 => assert!(matches!(error, LoadError::Length { .. }), "{at}: {error}"),
            _ if at < 4 => assert!(matches!(error, LoadError::NotAnArtefact), "{at}: {error}"),
            _ => assert!(matches!(error, LoadError::Checksum), "{at}: {error}"),
        }
    }
}

/// What tools like `strip` change: ELF's headers, and all behind what is loaded.
#[test]
fn what_is_not_used_may_be_taken_away_or_changed_but_not_cut_off() {
    let whole = file(|_, _, _| {});
    let with_sections = |count: u16, rest: usize| {
        let mut file = whole.clone();
        file[40..48].copy_from_slice(&(whole.len() as u64 + 8).to_le_bytes());
        file[58..60].copy_from_slice(&64u16.to_le_bytes());
        file[60..62].copy_from_slice(&count.to_le_bytes());
        file[64..HEADER_OFFSET].fill(7);
        file.resize(whole.len() + rest, 1);
        file
    };
    assert_eq!(load(&with_sections(3, 8 + 3 * 64)).unwrap().desc(), &desc());
    for (count, rest) in [(3, 0), (3, 8), (3, 8 + 3 * 64 - 1), (3, 8 + 3 * 64 + 1), (u16::MAX, 200)] {
        let cut = with_sections(count, rest);
        match load(&cut).unwrap_err() {
            LoadError::Length { expected, found } => {
                assert_eq!(expected, whole.len() as u64 + 8 + u64::from(count) * 64);
                assert_eq!(found, cut.len() as u64);
            }
            other => panic!("{count}, {rest}: {other}"),
        }
    }
    let mut nowhere = with_sections(3, 200);
    nowhere[40..48].fill(0xff);
    assert!(matches!(load(&nowhere), Err(LoadError::Length { expected: u64::MAX, .. })));
}

#[test]
fn another_version_is_refused_with_both_numbers() {
    let mut other = file(|_, _, _| {});
    other[HEADER_OFFSET + 8] = 9;
    let newer = "use a newer one, or compile the model with nnc 0.1.0";
    assert_eq!(
        refusal(&other),
        format!(
            "the program, made by nnc 0.1.0, has format version 9; this runtime, nnc-runtime 0.1.0, is older and reads 3: {newer}"
        )
    );
    let mut other = file(|header, _, _| header.made_by = "nnc 7.0".into());
    other[HEADER_OFFSET + 12] = 9;
    reseal(&mut other);
    assert_eq!(
        refusal(&other),
        format!(
            "the program, made by nnc 7.0, has ABI version 9; this runtime, nnc-runtime 0.1.0, is older and reads 8: {newer}"
        )
    );
    let old = "this runtime, nnc-runtime 0.1.0, reads";
    let mut other = file(|_, _, _| {});
    other[HEADER_OFFSET + 12] = 7;
    reseal(&mut other);
    assert_eq!(
        refusal(&other),
        format!("the program, made by nnc 0.1.0, has ABI version 7; {old} 8: compile the model again")
    );
    let mut other = file(|_, _, _| {});
    other[HEADER_OFFSET + 8] = 2;
    assert_eq!(
        refusal(&other),
        format!("the program has format version 2; {old} 3: compile the model again")
    );
}

#[test]
fn who_made_a_file_is_told_only_as_text() {
    let refused = |made_by: &str| {
        let mut other = file(|header, _, _| header.made_by = made_by.into());
        other[HEADER_OFFSET + 12] = 9;
        reseal(&mut other);
        refusal(&other)
    };
    assert!(refused("").starts_with("the program has ABI"));
    assert!(refused("a\u{1b}[2J").starts_with("the program has ABI"));
    assert!(refused(&"é".repeat(99)).starts_with(&format!("the program, made by {}, has", "é".repeat(16))));
    assert!(refused(&format!("a{}", "é".repeat(99))).starts_with("the program has ABI"), "half a letter");
}

/// Gives a changed file a checksum that matches, as only somebody who means to can.
fn reseal(file: &mut [u8]) {
    let checksum = HEADER_OFFSET + 96..HEADER_OFFSET + 128;
    let mut hash = blake3::Hasher::new();
    hash.update(&file[HEADER_OFFSET..checksum.start]);
    hash.update(&file[checksum.end..]);
    file[checksum].copy_from_slice(hash.finalize().as_bytes());
}

#[test]
fn code_for_another_cpu_is_refused() {
    let other = file(|header, _, _| header.machine = Machine(243));
    assert!(refusal(&other).starts_with("the program was compiled for machine 243, but this is "));

    let future = CpuFeatures(1 << 63);
    let expected = "the program was compiled for baseline, but this CPU lacks feature 63; compile the model here, \
                    or for a target that this CPU is";
    let other = file(|_, desc, _| desc.features = future);
    assert_eq!(refusal(&other), expected);
}

#[test]
fn parts_that_do_not_fit_are_refused_though_the_checksum_matches() {
    let refused = |change: fn(&mut Header)| refusal(&file(|header, _, _| change(header)));
    let outside = "the program has a part outside the file; compile the model again";
    assert_eq!(refused(|header| header.program = 1 << 20..1 << 21), outside);
    assert_eq!(refused(|header| header.consts.end += 1), outside);
    assert_eq!(refused(|header| header.table = u64::MAX - 2), outside);
    assert_eq!(refused(|header| header.functions = u32::MAX), outside);
    assert_eq!(
        refused(|header| header.text = 1 << 63..u64::MAX),
        "the program has a part outside the file; compile the model again"
    );
    let shared = "the program has code that shares a page with data; compile the model again";
    assert_eq!(refused(|header| header.text.start += 16), shared);
    assert_eq!(refused(|header| header.text.end = CONSTS as u64 + 1), shared);
    assert_eq!(
        refused(|header| header.consts = 0x10010..0x10074),
        "the program has constants that are not aligned; compile the model again"
    );
    assert_eq!(
        refused(|header| header.text.end = header.text.start + 16),
        "the program has a function outside its code; compile the model again"
    );
    assert_eq!(
        refused(|header| header.functions = 1),
        "the program has a function outside its table; compile the model again"
    );
    assert_eq!(
        refused(|header| header.consts.end -= 1),
        "the program describes 100 bytes of constants but comes with 99; compile it again"
    );
    assert!(refused(|header| header.program.end -= 1).contains("outside the file"));
    assert!(refused(|header| header.program.start += 1).contains("compile the model again"));
}

#[test]
fn a_description_that_does_not_fit_is_refused_though_the_checksum_matches() {
    let refused = refusal(&file(|_, desc, _| desc.steps[0].func = 2));
    assert_eq!(refused, "step \"only\" calls function 2 of 2; compile the program again");
}

#[test]
fn steps_that_reach_outside_of_their_regions_are_refused_though_the_checksum_matches() {
    let step = |change: fn(&mut ProgramDesc)| refusal(&file(|_, desc, _| change(desc)));
    for refused in [
        step(|desc| desc.steps[0].args.push(Arg { region: Region::Arena, offset: 65 })),
        step(|desc| desc.steps[0].args.push(Arg { region: Region::Arena, offset: u64::MAX })),
        step(|desc| desc.steps[0].args.push(Arg { region: Region::Const, offset: 101 })),
        step(|desc| desc.steps[0].args.push(Arg { region: Region::Input(0), offset: 0 })),
        step(|desc| desc.steps[0].args.push(Arg { region: Region::Output(7), offset: 0 })),
    ] {
        assert!(refused.contains("of step \"only\""), "{refused}");
    }
    assert!(step(|desc| desc.steps[0].units = 0).contains("no units of work"));
    assert!(step(|desc| desc.steps[0].func = u32::MAX).contains("calls function 4294967295 of 2"));
    let port = |shape: &[usize]| Port {
        name: "x".into(),
        elem: ElemType::F32,
        shape: shape.to_vec(),
        counts: Vec::new(),
    };
    let ports = |list: Vec<Port>| refusal(&file(|_, desc, _| desc.inputs = list));
    assert!(ports(vec![port(&[1 << 62, 4])]).contains("larger than the address space"));
    assert!(ports(vec![port(&[1]), port(&[2])]).contains("stands for two inputs"));
}

#[test]
fn any_description_with_a_matching_checksum_loads_or_is_refused() {
    let file = file(|_, desc, _| {
        desc.steps[0].args.push(Arg { region: Region::Arena, offset: 0 });
        desc.inputs =
            vec![Port { name: "x".into(), elem: ElemType::F32, shape: vec![2, 3], counts: Vec::new() }];
        desc.steps[0].args.push(Arg { region: Region::Input(0), offset: 0 });
    });
    let end = u64::from_le_bytes(file[HEADER_OFFSET + 40..HEADER_OFFSET + 48].try_into().unwrap()) as usize;
    let mut refused = 0;
    for at in 1024..1024 + end {
        for flip in [0x01, 0x40, 0x80, 0xff] {
            let mut file = file.clone();
            file[at] ^= flip;
            reseal(&mut file);
            match load(&file) {
                Ok(program) => program.desc().verify().unwrap(),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 2 * end, "{refused} of {}", 4 * end);
}

#[test]
fn a_pipe_is_refused_without_waiting_for_its_writer() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(matches!(load_path(&pipe), Err(LoadError::NotAnArtefact)));
}

#[test]
fn any_header_with_a_matching_checksum_loads_or_is_refused() {
    let file = file(|_, _, _| {});
    let mut refused = 0;
    for at in HEADER_OFFSET..HEADER_OFFSET + 96 {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut file = file.clone();
            file[at] ^= flip;
            reseal(&mut file);
            match load(&file) {
                // More code, a feature that this CPU has, or another place in a table of zeros.
                Ok(program) => assert_eq!(program.desc(), &desc()),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 300, "{refused} of 384");
}

/// A file of several versions, the best first, whose targets are named by their numbers.
fn file_of_versions(features: &[CpuFeatures]) -> Vec<u8> {
    let versions: Vec<ProgramDesc> = features
        .iter()
        .enumerate()
        .map(|(number, &features)| ProgramDesc {
            target: number.to_string(),
            features,
            functions: 1,
            ..desc()
        })
        .map(|mut desc| {
            desc.steps[0].func = 0;
            desc
        })
        .collect();
    let written = versions::write(&versions.iter().collect::<Vec<_>>()).unwrap();
    file(|header, _, file| {
        header.versions = features.len() as u32;
        header.functions = features.len() as u32;
        header.program = 2048..2048 + written.len() as u64;
        file[2048..2048 + written.len()].copy_from_slice(&written);
        for number in 0..features.len() {
            file[800 + 4 * number..][..4].copy_from_slice(&(16 * number as u32 % 32).to_le_bytes());
        }
    })
}

#[test]
fn the_best_version_that_runs_is_loaded() {
    let (none, future) = (CpuFeatures::default(), CpuFeatures(1 << 63));
    let here = CpuFeatures::detect();
    let picked = |features: &[CpuFeatures]| load(&file_of_versions(features)).unwrap().desc().target.clone();
    assert_eq!(picked(&[future, here, none]), "1");
    assert_eq!(picked(&[here, none]), "0");
    assert_eq!(picked(&[future, future.with(here), none]), "2");
    assert_eq!(
        refusal(&file_of_versions(&[future.with(CpuFeatures(1 << 62)), future])),
        "the program was compiled for 1, but this CPU lacks feature 63; compile the model here, or for a target that \
         this CPU is",
        "what is told is what the least of them lacks"
    );
}

#[test]
fn versions_that_do_not_fit_are_refused_though_the_checksum_matches() {
    let none = CpuFeatures::default();
    let with = |change: &dyn Fn(&mut [u8])| {
        let mut file = file_of_versions(&[none, none]);
        change(&mut file);
        reseal(&mut file);
        refusal(&file)
    };
    let count = "the program has another number of versions than it says; compile the model again";
    assert_eq!(with(&|file| file[HEADER_OFFSET + 28] = 0), count);
    assert_eq!(with(&|file| file[HEADER_OFFSET + 31] = 0xff), count);
    let outside = "the program has a part outside the file; compile the model again";
    assert_eq!(with(&|file| file[2048 + 8..2048 + 12].fill(0xff)), outside);
    assert_eq!(with(&|file| file[2048 + 12..2048 + 16].fill(0xff)), outside);
    let table = "the program has a function outside its table; compile the model again";
    assert_eq!(with(&|file| file[2048 + 16..2048 + 20].fill(0xff)), table);
    assert_eq!(with(&|file| file[2048 + 20] = 3), table);
    assert_eq!(
        with(&|file| file[2048 + 20] = 2),
        "the program describes 1 functions but comes with 2; compile it again"
    );
    assert_eq!(
        with(&|file| file[HEADER_OFFSET + 92] = 1),
        "the program has a header with more in it than its version has; compile the model again"
    );
}
