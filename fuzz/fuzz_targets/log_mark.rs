//! Fuzzes the decoding of commit marks. Does not know what they hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outrigger::log::untrusted::mark(bytes);
});
