//! Fuzzes the decoding of records of the log. Does not know what they hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outrigger::log::untrusted::record(bytes);
});
