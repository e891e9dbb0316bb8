//! What build systems ask for how to build with a library: a file for pkg-config, beside the library and its header.

/// A file that is linked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked<'a> {
    /// An object or a static library: its code becomes part of the program.
    Static(&'a str),
    /// A shared object, which the program looks for where it was when it was linked.
    Shared(&'a str),
}

/// The file for a library of this name, in the folder of the library. `about` is one line for people.
pub fn write_pkg_config(name: &str, about: &str, linked: Linked<'_>) -> String {
    let libs = match linked {
        Linked::Static(file) => format!("${{pcfiledir}}/{}", word(file)),
        Linked::Shared(file) => format!("${{pcfiledir}}/{} -Wl,-rpath,${{pcfiledir}}", word(file)),
    };
    let about: String = about.chars().map(|c| if c.is_control() || c == '#' { ' ' } else { c }).collect();
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "Name: {name}\nDescription: {about}\nVersion: {version}\nCflags: -I${{pcfiledir}}\nLibs: {libs}\n"
    )
}

/// A name as one word; the folder is one by itself.
fn word(name: &str) -> String {
    let special = |c: char| !c.is_alphanumeric() && !"-_.+".contains(c);
    name.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_found_beside_the_library() {
        let text = write_pkg_config("net", "for\nx86-64 #1", Linked::Shared("net.nnc.so"));
        assert!(text.contains("Libs: ${pcfiledir}/net.nnc.so -Wl,-rpath,${pcfiledir}\n"), "{text}");
        assert!(text.contains("Description: for x86-64  1\n"), "a line, and no comment");
        let text = write_pkg_config("net", "", Linked::Static("my net.nnc.a"));
        assert!(text.contains("Libs: ${pcfiledir}/my\\ net.nnc.a\n"), "{text}");
    }
}
