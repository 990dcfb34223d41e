//! Fuzzes the decoding of resident sections and posting lists of index runs. Does not know what they hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    outrigger::index::untrusted::sections(bytes);
});
