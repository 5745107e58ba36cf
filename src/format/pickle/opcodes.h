// SPDX-License-Identifier: BSD-3-Clause
// Pickle's instructions, protocols 0 to 5 (Python's Lib/pickletools.py documents each).
#pragma once

#include <cstdint>

namespace torchkeep::pickle {

/// One byte each; the comment shows what follows it in the stream. "line" ends with LF; numbers are little-endian.
enum class Op : std::uint8_t {
  // Framing
  proto = 0x80,  // u8 version
  frame = 0x95,  // u64 length
  stop = '.',
  // Numbers and None
  none = 'N',
  new_true = 0x88,
  new_false = 0x89,
  int_text = 'I',    // line; "00" and "01" are False and True
  long_text = 'L',   // line, with a final 'L'
  float_text = 'F',  // line
  bin_int = 'J',     // i32
  bin_int1 = 'K',    // u8
  bin_int2 = 'M',    // u16
  long1 = 0x8a,      // u8 length, two's complement
  long4 = 0x8b,      // i32 length, two's complement
  bin_float = 'G',   // f64, big-endian
  // Text and bytes
  string = 'S',              // line, Python 2 repr with quotes
  bin_string = 'T',          // i32 length, bytes
  short_bin_string = 'U',    // u8 length, bytes
  unicode = 'V',             // line, raw-unicode-escape
  bin_unicode = 'X',         // u32 length, UTF-8
  short_bin_unicode = 0x8c,  // u8 length, UTF-8
  bin_unicode8 = 0x8d,       // u64 length, UTF-8
  bin_bytes = 'B',           // u32 length, bytes
  short_bin_bytes = 'C',     // u8 length, bytes
  bin_bytes8 = 0x8e,         // u64 length, bytes
  byte_array8 = 0x96,        // u64 length, bytes
  next_buffer = 0x97,
  readonly_buffer = 0x98,
  // Containers
  mark = '(',
  empty_tuple = ')',
  tuple = 't',
  tuple1 = 0x85,
  tuple2 = 0x86,
  tuple3 = 0x87,
  empty_list = ']',
  list = 'l',
  append = 'a',
  appends = 'e',
  empty_dict = '}',
  dict = 'd',
  set_item = 's',
  set_items = 'u',
  empty_set = 0x8f,
  add_items = 0x90,
  frozen_set = 0x91,
  // Objects
  global = 'c',  // line module, line name
  stack_global = 0x93,
  reduce = 'R',
  build = 'b',
  new_obj = 0x81,
  new_obj_ex = 0x92,
  inst = 'i',  // line module, line name
  obj = 'o',
  pers_id = 'P',  // line
  bin_pers_id = 'Q',
  ext1 = 0x82,
  ext2 = 0x83,
  ext4 = 0x84,
  // Stack and memo
  pop = '0',
  pop_mark = '1',
  dup = '2',
  get = 'g',           // line, decimal
  bin_get = 'h',       // u8
  long_bin_get = 'j',  // u32
  put = 'p',           // line, decimal
  bin_put = 'q',       // u8
  long_bin_put = 'r',  // u32
  memoize = 0x94,
};

}  // namespace torchkeep::pickle
