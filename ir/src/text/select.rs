//! The channels of a [`ChannelSelect`](crate::op::ChannelSelect), as runs and interleaved runs.
//!
//! ```text
//!   [0[0..58], 1[4]]               channels 0 to 57 of operand 0, then channel 4 of operand 1
//!   [0[1..58 by 2]]                every second channel
//!   [zip(0[0..29], 1[0..29])]      one of operand 0, one of operand 1, and so on: a shuffle of two groups
//! ```

use crate::op::ChannelSource;

use super::attrs::Attr;

/// Channels that a text may name: more than any network has.
const MAX_CHANNELS: usize = 1 << 20;

/// Most runs that are interleaved.
const MAX_ZIP: usize = 64;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sources(pub Vec<ChannelSource>);

/// Channels `first`, `first + step`, … `len` of them, of one operand.
struct ChannelRange {
    operand: u32,
    first: u32,
    step: u32,
    len: usize,
}

impl ChannelRange {
    fn write(&self) -> String {
        if self.len == 1 {
            return format!("{}[{}]", self.operand, self.first);
        }
        let last = self.first as u64 + (self.len as u64 - 1) * self.step as u64;
        let step = if self.step == 1 { String::new() } else { format!(" by {}", self.step) };
        format!("{}[{}..{}{step}]", self.operand, self.first, last + 1)
    }

    fn read(text: &str) -> Option<ChannelRange> {
        let (operand, range) = text.trim().strip_suffix(']')?.split_once('[')?;
        let operand = operand.trim().parse().ok()?;
        let Some((first, rest)) = range.split_once("..") else {
            return Some(ChannelRange { operand, first: range.trim().parse().ok()?, step: 1, len: 1 });
        };
        let (end, step) = rest.split_once(" by ").unwrap_or((rest, "1"));
        let (first, end): (u32, u32) = (first.trim().parse().ok()?, end.trim().parse().ok()?);
        let step: u32 = step.trim().parse().ok().filter(|&s| s > 0)?;
        let len = end.checked_sub(first)?.div_ceil(step) as usize;
        (len > 0).then_some(ChannelRange { operand, first, step, len })
    }

    fn at(&self, i: usize) -> Option<ChannelSource> {
        let channel = self.first as usize + i * self.step as usize;
        Some(ChannelSource { operand: self.operand, channel: u32::try_from(channel).ok()? })
    }
}

/// The runs that, interleaved, begin `sources`: `width` of them.
fn runs(sources: &[ChannelSource], width: usize) -> Vec<ChannelRange> {
    let step = |lane: usize| -> Option<u32> {
        let (a, b) = (sources.get(lane)?, sources.get(lane + width)?);
        let step = b.channel.checked_sub(a.channel).filter(|&s| s > 0)?;
        (a.operand == b.operand).then_some(step)
    };
    let steps: Option<Vec<u32>> = (0..width).map(step).collect();
    let Some(steps) = steps else {
        return sources
            .iter()
            .take(1)
            .map(|s| ChannelRange { operand: s.operand, first: s.channel, step: 1, len: 1 })
            .collect();
    };
    let follows = |round: usize| {
        (0..width).all(|lane| match sources.get(round * width + lane) {
            Some(s) => {
                let expected = sources[lane].channel as u64 + round as u64 * steps[lane] as u64;
                s.operand == sources[lane].operand && s.channel as u64 == expected
            }
            None => false,
        })
    };
    let len = (1..).take_while(|&round| follows(round)).count() + 1;
    (0..width)
        .map(|lane| ChannelRange {
            operand: sources[lane].operand,
            first: sources[lane].channel,
            step: steps[lane],
            len,
        })
        .collect()
}

impl Attr for Sources {
    fn write(&self) -> String {
        let mut parts = Vec::new();
        let mut rest = &self.0[..];
        while !rest.is_empty() {
            // The longest runs; of equally long ones, as many as possible. Two channels far apart are no run.
            let best = (1..=MAX_ZIP.min(rest.len() / 2))
                .map(|width| runs(rest, width))
                .filter(|runs| runs.iter().all(|r| r.len > 2 || r.step == 1))
                .max_by_key(|runs| (runs.first().map_or(0, |r| r.len), runs.len()))
                .unwrap_or_else(|| runs(&rest[..1], 1));
            let covered: usize = best.iter().map(|r| r.len).sum();
            let texts: Vec<String> = best.iter().map(ChannelRange::write).collect();
            parts.push(if texts.len() == 1 { texts.concat() } else { format!("zip({})", texts.join(", ")) });
            rest = &rest[covered.min(rest.len())..];
        }
        format!("[{}]", parts.join(", "))
    }

    fn read(text: &str) -> Result<Self, String> {
        let expected = || "channels such as [0[0..8], zip(0[8..16], 1[0..8])]".to_string();
        let mut rest = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).ok_or_else(expected)?.trim();
        let mut sources = Vec::new();
        while !rest.is_empty() {
            let (part, inner, end) = match rest.strip_prefix("zip(") {
                Some(inner) => {
                    let end = inner.find(')').ok_or_else(expected)?;
                    ("zip(", &inner[..end], "zip(".len() + end + 1)
                }
                None => {
                    let end = rest.find(']').ok_or_else(expected)? + 1;
                    ("", &rest[..end], end)
                }
            };
            let runs: Option<Vec<ChannelRange>> = inner.split(',').map(ChannelRange::read).collect();
            let runs = runs.filter(|r| r.iter().all(|x| x.len == r[0].len)).ok_or_else(expected)?;
            if part.is_empty() && runs.len() != 1 {
                return Err(expected());
            }
            let len = runs.first().map_or(0, |r| r.len);
            if runs.len().saturating_mul(len).saturating_add(sources.len()) > MAX_CHANNELS {
                return Err(format!("at most {MAX_CHANNELS} channels"));
            }
            for i in 0..len {
                for run in &runs {
                    sources.push(run.at(i).ok_or_else(expected)?);
                }
            }
            rest = rest[end..].trim_start();
            match rest.strip_prefix(',') {
                Some(more) => rest = more.trim_start(),
                None if rest.is_empty() => {}
                None => return Err(expected()),
            }
        }
        Ok(Sources(sources))
    }
}
