//! Fuzzes the decoding of headers of index runs. Does not know what they hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outrigger::index::untrusted::header(bytes);
});
