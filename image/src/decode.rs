//! JPEG and PNG files → pixels, upright, in red, green and blue.
//!
//! Whatever the file has becomes eight bits of each colour: grey and palettes are spelled out, CMYK is converted, of sixteen bits
//! the upper eight stay, and transparency is left out. A picture that says how the camera was held (EXIF) is turned upright, as
//! browsers and viewers do. A damaged or cut-off file is refused, not completed with grey.

use std::error::Error;
use std::io::Cursor;

use png::Transformations;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::picture::Picture;

/// A picture of more pixels is refused before memory is taken for it.
const MAX_PIXELS: u64 = 1 << 27;

/// Bytes that are no picture, or none that can be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A picture of another format.
    #[error("is a {0} file, which nnc does not read; convert it to JPEG or PNG")]
    Format(&'static str),
    /// No picture at all.
    #[error("cannot be read as a picture; give a JPEG or PNG")]
    Unknown,
    /// A damaged one, or one that is too large.
    #[error("cannot be read as a {format}")]
    Damaged {
        /// JPEG or PNG.
        format: &'static str,
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// What no decoder says.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it has no pixels ({0}×{1})")]
    Empty(usize, usize),
    #[error("it has {0}×{1} pixels, more than {MAX_PIXELS}; make it smaller")]
    TooLarge(usize, usize),
    #[error("it is too large")]
    Samples,
    #[error("it says no size")]
    NoSize,
    #[error("it is cut off")]
    CutOff,
    #[error("its colours are of no kind that is known")]
    Colours,
    #[error("its palette is missing")]
    NoPalette,
}

type Outcome = Result<Picture, Box<dyn Error + Send + Sync>>;

/// Reads a picture from the bytes of a file.
pub(crate) fn decode(bytes: &[u8]) -> Result<Picture, DecodeError> {
    let format = kind(bytes).ok_or(DecodeError::Unknown)?;
    let read = match format {
        "JPEG" => jpeg(bytes),
        "PNG" => png(bytes),
        other => return Err(DecodeError::Format(other)),
    };
    read.map_err(|source| DecodeError::Damaged { format, source })
}

/// The format of a file, by its first bytes.
fn kind(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(usize, &[u8], &str); 17] = [
        (0, b"\xFF\xD8\xFF", "JPEG"),
        (0, b"\x89PNG\r\n\x1A\n", "PNG"),
        (0, b"GIF8", "GIF"),
        (0, b"BM", "BMP"),
        (8, b"WEBP", "WebP"),
        (0, b"II*\0", "TIFF"),
        (0, b"MM\0*", "TIFF"),
        (4, b"ftypavif", "AVIF"),
        (4, b"ftypheic", "HEIC"),
        (4, b"ftypheix", "HEIC"),
        (4, b"ftypmif1", "HEIF"),
        (4, b"JXL ", "JPEG XL"),
        (0, b"\xFF\x0A", "JPEG XL"),
        (4, b"jP  ", "JPEG 2000"),
        (0, b"qoif", "QOI"),
        (0, b"%PDF", "PDF"),
        (0, b"\0\0\x01\0", "ICO"),
    ];
    let found =
        KINDS.iter().find(|(at, magic, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    found.map(|&(.., name)| name)
}

fn admit(width: usize, height: usize) -> Result<(), Fault> {
    if width == 0 || height == 0 {
        return Err(Fault::Empty(width, height));
    }
    if width as u64 * height as u64 > MAX_PIXELS {
        return Err(Fault::TooLarge(width, height));
    }
    Ok(())
}

fn jpeg(bytes: &[u8]) -> Outcome {
    let options = DecoderOptions::default()
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers()?;
    let info = decoder.info().ok_or(Fault::NoSize)?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    admit(width, height)?;
    let orientation = decoder.exif().and_then(|exif| orientation(exif));
    if !has_end(bytes) {
        return Err(Fault::CutOff.into());
    }
    let pixels = decoder.decode()?;
    if pixels.len() != width * height * 3 {
        return Err(Fault::Colours.into());
    }
    Ok(Picture { width, height, bytes: pixels }.upright(orientation.unwrap_or(1)))
}

/// Whether the marker that ends a JPEG is there. Segments have lengths; in what follows a start of scan, a marker is a byte 0xFF that
/// neither 0 nor the number of a restart follows (ITU T.81, annex B).
fn has_end(bytes: &[u8]) -> bool {
    const END: u8 = 0xD9;
    const NO_SEGMENT: std::ops::RangeInclusive<u8> = 0xD0..=0xD8;
    let mut rest = bytes;
    loop {
        let Some(at) = rest.windows(2).position(|w| w[0] == 0xFF && !matches!(w[1], 0 | 0xFF)) else {
            return false;
        };
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        if marker == END {
            return true;
        }
        if !NO_SEGMENT.contains(&marker) {
            let Some(&[high, low]) = rest.first_chunk::<2>() else { return false };
            let Some(behind) = rest.get(usize::from(u16::from_be_bytes([high, low]))..) else { return false };
            rest = behind;
        }
    }
}

fn png(bytes: &[u8]) -> Outcome {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    let (width, height) = {
        let info = decoder.read_header_info()?;
        (info.width as usize, info.height as usize)
    };
    admit(width, height)?;
    let mut reader = decoder.read_info()?;
    let size = reader.output_buffer_size().ok_or(Fault::Samples)?;
    let mut samples = vec![0; size];
    let frame = reader.next_frame(&mut samples)?;
    // Behind the pixels there may be more, such as how the camera was held.
    reader.finish()?;
    samples.truncate(frame.buffer_size());
    let orientation = reader.info().exif_metadata.as_deref().and_then(orientation);
    let bytes = match frame.color_type {
        png::ColorType::Rgb => samples,
        png::ColorType::Rgba => samples.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        png::ColorType::Grayscale => samples.iter().flat_map(|&grey| [grey; 3]).collect(),
        png::ColorType::GrayscaleAlpha => samples.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        png::ColorType::Indexed => return Err(Fault::NoPalette.into()),
    };
    Ok(Picture { width, height, bytes }.upright(orientation.unwrap_or(1)))
}

/// How a picture lies, from its EXIF data: a TIFF header, then entries of twelve bytes (tag, type, count, value).
fn orientation(exif: &[u8]) -> Option<u16> {
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let little = match exif.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let two: [u8; 2] = exif.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let long = |at: usize| {
        let four: [u8; 4] = exif.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) })
    };
    let table = long(4)? as usize;
    let entries = usize::from(short(table)?);
    (0..entries)
        .map(|i| table + 2 + i * 12)
        .find(|&entry| short(entry) == Some(0x0112))
        .and_then(|e| short(e + 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG of raw samples.
    fn png_of(w: u32, h: u32, color: png::ColorType, depth: png::BitDepth, data: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, w, h);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == png::ColorType::Indexed {
            encoder.set_palette(&[1u8, 2, 3, 40, 50, 60][..]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        file
    }

    fn read(file: &[u8]) -> Vec<u8> {
        decode(file).unwrap().bytes
    }

    #[test]
    fn every_kind_of_png_becomes_three_bytes_a_pixel() {
        use png::{BitDepth::*, ColorType::*};
        assert_eq!(read(&png_of(2, 1, Rgb, Eight, &[1, 2, 3, 4, 5, 6])), [1, 2, 3, 4, 5, 6]);
        assert_eq!(read(&png_of(1, 2, Rgba, Eight, &[1, 2, 3, 0, 4, 5, 6, 255])), [1, 2, 3, 4, 5, 6]);
        assert_eq!(read(&png_of(2, 1, Grayscale, Eight, &[7, 9])), [7, 7, 7, 9, 9, 9]);
        assert_eq!(read(&png_of(1, 1, GrayscaleAlpha, Eight, &[7, 9])), [7, 7, 7]);
        assert_eq!(read(&png_of(1, 1, Rgb, Sixteen, &[1, 200, 2, 200, 3, 200])), [1, 2, 3]);
        assert_eq!(read(&png_of(2, 1, Grayscale, One, &[0b0100_0000])), [0, 0, 0, 255, 255, 255]);
        assert_eq!(read(&png_of(2, 1, Indexed, Eight, &[1, 0])), [40, 50, 60, 1, 2, 3]);
    }

    #[test]
    fn a_picture_is_turned_upright() {
        // Two rows of three pixels, numbered from the upper left.
        let lying = Picture::from_fn(3, 2, |x, y| [(y * 3 + x) as u8; 3]);
        let turned = |orientation| {
            let p = lying.clone().upright(orientation);
            (p.width, p.pixels().map(|p| p[0]).collect::<Vec<_>>())
        };
        assert_eq!(turned(1), (3, vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(turned(2), (3, vec![2, 1, 0, 5, 4, 3]));
        assert_eq!(turned(3), (3, vec![5, 4, 3, 2, 1, 0]));
        assert_eq!(turned(4), (3, vec![3, 4, 5, 0, 1, 2]));
        assert_eq!(turned(5), (2, vec![0, 3, 1, 4, 2, 5]));
        assert_eq!(turned(6), (2, vec![3, 0, 4, 1, 5, 2]));
        assert_eq!(turned(7), (2, vec![5, 2, 4, 1, 3, 0]));
        assert_eq!(turned(8), (2, vec![2, 5, 1, 4, 0, 3]));
        assert_eq!(turned(9), (3, vec![0, 1, 2, 3, 4, 5]));
    }

    #[test]
    fn the_orientation_is_found_in_both_orders_of_bytes() {
        let big = b"MM\0*\0\0\0\x08\0\x02\x01\0\0\x03\0\0\0\x01\0\x09\0\0\x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
        assert_eq!(orientation(big), Some(6));
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0";
        assert_eq!(orientation(little), Some(8));
        assert_eq!(orientation(&[b"Exif\0\0".as_slice(), little].concat()), Some(8));
        for damaged in [&little[..19], &little[..9], &little[..3], b"II*\0\xFF\xFF\xFF\xFF", b""] {
            assert_eq!(orientation(damaged), None);
        }
    }

    #[test]
    fn other_formats_are_refused_by_their_names() {
        let riff = [b"RIFF\0\0\0\0".as_slice(), b"WEBPVP8 "].concat();
        let files: [(&[u8], &str); 6] = [
            (b"GIF89a", "GIF"),
            (b"BM\0\0", "BMP"),
            (&riff, "WebP"),
            (b"II*\0", "TIFF"),
            (b"\0\0\0\x1Cftypavif", "AVIF"),
            (b"\0\0\0\x1Cftypheic", "HEIC"),
        ];
        for (file, name) in files {
            let error = decode(file).unwrap_err().to_string();
            assert!(error.contains(&format!("is a {name} file")) && error.contains("JPEG or PNG"), "{error}");
        }
        assert!(decode(b"").unwrap_err().to_string().contains("give a JPEG or PNG"));
        assert!(decode(b"hello").is_err());
    }

    #[test]
    fn a_png_that_claims_more_pixels_than_are_read_takes_no_memory() {
        let mut file = png_of(1, 1, png::ColorType::Grayscale, png::BitDepth::Eight, &[0]);
        // Width and height stand behind the signature, length and name of the first chunk; its checksum behind them.
        file[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        file[20..24].copy_from_slice(&60_000u32.to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(&file[12..29]);
        file[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        let error = decode(&file).unwrap_err().source().unwrap().to_string();
        assert!(error.contains("60000×60000"), "{error}");
    }

    const RGB: &[u8] = include_bytes!("../tests/pictures/rgb.jpg");

    /// The first pixel, and the last one of the first row.
    fn ends(file: &[u8]) -> ((usize, usize), [[u8; 3]; 2]) {
        let picture = decode(file).unwrap();
        let row: Vec<[u8; 3]> = picture.pixels().take(picture.width).collect();
        ((picture.width, picture.height), [row[0], row[row.len() - 1]])
    }

    fn near(a: [[u8; 3]; 2], b: [[u8; 3]; 2]) -> bool {
        a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| a.abs_diff(*b) <= 8)
    }

    #[test]
    fn every_kind_of_jpeg_has_its_colours() {
        let (red, blue) = ([250, 0, 0], [0, 0, 250]);
        let files: [(&str, &[u8], [[u8; 3]; 2]); 4] = [
            ("rgb", RGB, [red, blue]),
            ("progressive", include_bytes!("../tests/pictures/progressive.jpg"), [red, blue]),
            ("cmyk", include_bytes!("../tests/pictures/cmyk.jpg"), [red, blue]),
            ("grey", include_bytes!("../tests/pictures/grey.jpg"), [[75; 3], [28; 3]]),
        ];
        for (name, file, colours) in files {
            let (size, found) = ends(file);
            assert_eq!(size, (16, 8), "{name}");
            assert!(near(found, colours), "{name}: {found:?}");
        }
    }

    #[test]
    fn a_picture_from_a_turned_camera_stands_upright() {
        let (red, blue) = ([250, 0, 0], [0, 0, 250]);
        let (size, found) = ends(include_bytes!("../tests/pictures/turned.jpg"));
        assert_eq!(size, (8, 16));
        assert!(near(found, [red, red]), "{found:?}");
        let (size, found) = ends(include_bytes!("../tests/pictures/turned.png"));
        assert_eq!(size, (16, 8));
        assert!(near(found, [blue, red]), "{found:?}");
    }

    #[test]
    fn a_picture_that_is_cut_off_anywhere_is_refused() {
        let turned: &[u8] = include_bytes!("../tests/pictures/turned.png");
        for file in [RGB, include_bytes!("../tests/pictures/progressive.jpg"), turned] {
            let whole = decode(file).unwrap();
            for end in 0..file.len() {
                // The last bytes of a file may say nothing about its pixels.
                if let Ok(picture) = decode(&file[..end]) {
                    assert_eq!(picture, whole, "cut at {end} of {}", file.len());
                }
            }
        }
    }

    #[test]
    fn a_damaged_byte_is_an_error_or_another_picture() {
        let turned: &[u8] = include_bytes!("../tests/pictures/turned.png");
        for file in [RGB, include_bytes!("../tests/pictures/cmyk.jpg"), turned] {
            for at in 0..file.len() {
                for flip in [0xFF, 0x01, 0x80] {
                    let mut damaged = file.to_vec();
                    damaged[at] ^= flip;
                    let _ = decode(&damaged);
                }
            }
        }
    }
}
