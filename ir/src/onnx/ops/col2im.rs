//! Col2Im.

use super::Results;
use super::window::WindowAttributes;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::Col2Im;

/// Col2Im, since 18. The shapes of the image and of a block are operands.
pub(in crate::onnx) fn col2im(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let image = extents(n, 1, "image_shape")?;
    let kernel = extents(n, 2, "block_shape")?;
    if image.len() != kernel.len() || image.is_empty() {
        return Err(NodeFault::invalid(format!(
            "has an image {image:?} and a block {kernel:?} of other rank"
        )));
    }
    let attributes = WindowAttributes::read(&mut n.attributes, image.len(), Some(&kernel))?;
    let (window, _) = attributes.over(&image, false)?;
    Ok(vec![n.emit(Col2Im { image, window }, &[x])?])
}

fn extents(n: &mut NodeReader<'_, '_>, index: usize, name: &'static str) -> Result<Vec<usize>, NodeFault> {
    let list = n.ints(index, name)?.ok_or_else(|| NodeFault::invalid(format!("has no {name}")))?;
    let positive = |&extent: &i64| usize::try_from(extent).ok().filter(|&extent| extent > 0);
    let extents: Option<Vec<usize>> = list.iter().map(positive).collect();
    extents.ok_or_else(|| NodeFault::invalid(format!("operand {name} must be positive, it is {list:?}")))
}
