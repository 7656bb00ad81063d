//! How a camera was held.

/// What must be done to a stored picture to see it upright (EXIF 2.32, tag 0x0112).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orientation {
    /// Nothing.
    Upright,
    /// Left and right change places.
    FlipHorizontal,
    /// A half turn.
    Rotate180,
    /// The upper and the lower rows change places.
    FlipVertical,
    /// Rows become columns.
    Transpose,
    /// A quarter turn clockwise.
    Rotate90,
    /// Rows become columns, then a half turn.
    Transverse,
    /// A quarter turn counterclockwise.
    Rotate270,
}

impl Orientation {
    /// Reads the orientation from an EXIF block, if it has one.
    pub(super) fn from_exif(exif: &[u8]) -> Option<Self> {
        // Some writers leave JPEG's prefix in front of the TIFF structure in PNG and WebP.
        let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
        let little = match tiff.first_chunk::<4>()? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        let short = |at: usize| {
            let bytes = *tiff.get(at..)?.first_chunk()?;
            Some(match little {
                true => u16::from_le_bytes(bytes),
                false => u16::from_be_bytes(bytes),
            })
        };
        let long = |at: usize| {
            let bytes = *tiff.get(at..)?.first_chunk()?;
            Some(match little {
                true => u32::from_le_bytes(bytes),
                false => u32::from_be_bytes(bytes),
            } as usize)
        };
        const ORIENTATION: u16 = 0x0112;
        const SHORT: u16 = 3;
        let directory = long(4)?;
        let entries = usize::from(short(directory)?);
        // An entry: tag, type, count, value, in 2, 2, 4 and 4 bytes.
        let mut places = (0..entries).map(|i| directory.saturating_add(2 + 12 * i));
        let entry = places.find(|at| short(*at) == Some(ORIENTATION))?;
        if short(entry + 2)? != SHORT || long(entry + 4)? != 1 {
            return None;
        }
        Some(match short(entry + 8)? {
            1 => Self::Upright,
            2 => Self::FlipHorizontal,
            3 => Self::Rotate180,
            4 => Self::FlipVertical,
            5 => Self::Transpose,
            6 => Self::Rotate90,
            7 => Self::Transverse,
            8 => Self::Rotate270,
            _ => return None,
        })
    }

    /// Returns whether width and height change places.
    pub(super) fn swaps_sides(self) -> bool {
        matches!(
            self,
            Self::Transpose | Self::Rotate90 | Self::Transverse | Self::Rotate270
        )
    }

    /// Collects the pixels of a `width` x `height` picture, `N` values each, in the order of the upright picture.
    pub(super) fn apply<T: Copy, const N: usize>(
        self,
        values: &[T],
        (width, height): (usize, usize),
    ) -> Vec<T> {
        let (pixels, _) = values.as_chunks::<N>();
        let (columns, rows) = match self.swaps_sides() {
            true => (height, width),
            false => (width, height),
        };
        let mut upright = Vec::with_capacity(values.len());
        for y in 0..rows {
            for x in 0..columns {
                let (from_x, from_y) = match self {
                    Self::Upright => (x, y),
                    Self::FlipHorizontal => (width - 1 - x, y),
                    Self::Rotate180 => (width - 1 - x, height - 1 - y),
                    Self::FlipVertical => (x, height - 1 - y),
                    Self::Transpose => (y, x),
                    Self::Rotate90 => (y, height - 1 - x),
                    Self::Transverse => (width - 1 - y, height - 1 - x),
                    Self::Rotate270 => (width - 1 - y, x),
                };
                upright.extend_from_slice(&pixels[from_y * width + from_x]);
            }
        }
        upright
    }
}
