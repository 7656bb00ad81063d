//! Arithmetic on slices: what frozen networks and their pictures spend their time with, on the vector instructions of the
//! machine that the program finds itself on.

pub mod attention;
pub mod convolution;
pub mod depthwise;
pub mod product;
pub mod resample;
pub mod rows;
pub mod winograd;

use std::sync::LazyLock;

use pulp::{Arch, Simd, WithSimd};

/// The instructions of this machine.
static ARCH: LazyLock<Arch> = LazyLock::new(Arch::new);

/// What the vector instructions of this machine that are used are called; `None` where none are.
pub fn vector_instructions() -> Option<&'static str> {
    match *ARCH {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        Arch::V4(_) => Some("AVX-512"),
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        Arch::V3(_) => Some("AVX2"),
        #[cfg(target_arch = "aarch64")]
        Arch::Neon(_) => Some("NEON"),
        _ => None,
    }
}

/// Numbers in a vector register of this machine.
fn lanes() -> usize {
    struct Lanes;

    impl WithSimd for Lanes {
        type Output = usize;

        fn with_simd<S: Simd>(self, _simd: S) -> usize {
            S::F32_LANES
        }
    }

    ARCH.dispatch(Lanes)
}
