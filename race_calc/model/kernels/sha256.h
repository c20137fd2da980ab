#ifndef SHA256_H
#define SHA256_H
#include <stdint.h>
void race_sha256(const void *data, uint64_t size, uint8_t digest[32]);
#endif
