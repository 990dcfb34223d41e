//! Fuzzes the decoding of headers of segments. Does not know what they hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outrigger::log::untrusted::segment_header(bytes);
});
