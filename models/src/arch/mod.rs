//! One file per architecture, each reading like its paper.

pub(crate) mod alexnet;
pub(crate) mod convnext;
pub(crate) mod crnn;
pub(crate) mod densenet;
pub(crate) mod efficientnet;
pub(crate) mod espcn;
pub(crate) mod ghostnet;
pub(crate) mod mobilenet_v1;
pub(crate) mod mobilenet_v2;
pub(crate) mod mobilenet_v3;
pub(crate) mod mobilevit;
pub(crate) mod nasnet;
pub(crate) mod resnet;
pub(crate) mod shufflenet_v1;
pub(crate) mod shufflenet_v2;
pub(crate) mod squeezenet;
pub(crate) mod unet;
pub(crate) mod vit;
pub(crate) mod xception;
pub(crate) mod yolo_v8;

/// Scales a number of channels by a width multiplier and rounds it to a multiple of eight, never down by more
/// than a tenth (as the reference code of the MobileNets does).
fn scaled_channels(channels: usize, width: f64) -> usize {
    let wanted = channels as f64 * width;
    let rounded = ((wanted + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * wanted { rounded + 8 } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::scaled_channels;

    #[test]
    fn scaled_channels_are_multiples_of_eight_and_never_a_tenth_too_few() {
        assert_eq!(scaled_channels(32, 1.0), 32);
        assert_eq!(scaled_channels(32, 0.35), 16);
        assert_eq!(scaled_channels(24, 0.75), 24);
        assert_eq!(scaled_channels(16, 0.1), 8);
    }
}
