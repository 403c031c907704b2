/* Counters of Python lines: libFuzzer takes a section of this name for edges, see FuzzerExtraCountersLinux.cpp. */
#include <stdint.h>

__attribute__((section("__libfuzzer_extra_counters"), visibility("default"), used)) uint8_t kf_lines[1 << 14];
