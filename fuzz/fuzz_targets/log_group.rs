//! Fuzzes the decoding of groups of the log. Does not know what they hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outrigger::log::untrusted::group(bytes);
});
