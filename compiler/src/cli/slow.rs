//! The warning about layers that have no kernels.

use nnc::SlowLayer;

use super::units;

/// Layers that are named; of more, there is the number.
const NAMED: usize = 5;

/// Says on stderr which large layers are loop nests, and why.
pub fn warn(layers: &[SlowLayer]) {
    if let Some(text) = text(layers) {
        eprint!("{text}");
    }
}

fn text(layers: &[SlowLayer]) -> Option<String> {
    let all: u64 = layers.iter().map(|layer| layer.macc).sum();
    let count = match layers.len() {
        0 => return None,
        1 => "a large layer has no kernel and becomes a loop nest".to_string(),
        n => format!("{n} large layers have no kernels and become loop nests"),
    };
    let mut text = format!("warning: {count}, which is many times slower ({} MACC)\n", units::count(all));
    let mut largest: Vec<&SlowLayer> = layers.iter().collect();
    largest.sort_by_key(|layer| std::cmp::Reverse(layer.macc));
    for layer in largest.iter().take(NAMED) {
        let SlowLayer { name, op, macc, why } = layer;
        text += &format!("  \"{name}\" ({op}, {} MACC): {why}\n", units::count(*macc));
    }
    if let Some(more) = layers.len().checked_sub(NAMED).filter(|more| *more > 0) {
        text += &format!("  and {more} more\n");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, macc: u64) -> SlowLayer {
        SlowLayer { name: name.into(), op: "Conv".into(), macc, why: "no kernel fits".into() }
    }

    #[test]
    fn nothing_is_said_of_models_whose_layers_have_kernels() {
        assert_eq!(text(&[]), None);
    }

    #[test]
    fn the_largest_layers_are_named_first() {
        let layers: Vec<SlowLayer> = (1..=7u64).map(|i| layer(&format!("conv{i}"), i * 1_000_000)).collect();
        let text = text(&layers).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("warning: 7 large layers have no kernels"), "{text}");
        assert!(lines[1].contains("\"conv7\" (Conv, ") && lines[1].ends_with(": no kernel fits"), "{text}");
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[6], "  and 2 more");
    }
}
