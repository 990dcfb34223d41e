//! Fuzzes the decoding of manifests, and plans of repairs. Does not know what they hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outrigger::log::untrusted::manifest(bytes);
});
