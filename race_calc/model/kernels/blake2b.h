#ifndef BLAKE2B_H
#define BLAKE2B_H
#include <stdint.h>
void race_blake2b(const void *data, uint64_t size, uint8_t digest[32]); /* as hashlib.blake2b(data, digest_size=32) */
#endif
