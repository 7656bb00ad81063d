//! mimalloc, told to keep the pages that a step gives back for the next one.

pub use mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name; it stands between `mi_option_eager_commit_delay`
/// (14) and `mi_option_use_numa_nodes` (16), which they do.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// How long freed pages are kept, in milliseconds: much longer than a step, so that only a program at rest gives them back.
const KEPT: std::ffi::c_long = 10_000;

/// Call it first in `main`. A tower's buffers are freed and allocated anew in every step; fetched from the system each
/// time, their pages cost 5 to 15 per cent of the time (`benches/README.md`).
pub fn keep_pages() {
    // SAFETY: the option exists in both versions of mimalloc that the bindings can build, its value is a number of
    // milliseconds, and no other thread runs yet.
    #[allow(
        unsafe_code,
        reason = "the bindings have no safe way to set an option; without it steps are 5 to 15 per cent slower"
    )]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, KEPT);
    }
}
