#![no_main]

use libfuzzer_sys::fuzz_target;
use tallyman::parsers::Parser;

fuzz_target!(|bytes: &[u8]| {
    Parser::Journal.take(bytes);
});
