/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that follow from a seed (splitmix64). */
#ifndef DIFFERENTIAL_RANDOM_H
#define DIFFERENTIAL_RANDOM_H

#include <stdint.h>

struct random {
	uint64_t state;
};

static inline uint64_t random_next(struct random *random)
{
	uint64_t word = random->state += 0x9e3779b97f4a7c15ull;

	word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9ull;
	word = (word ^ word >> 27) * 0x94d049bb133111ebull;
	return word ^ word >> 31;
}

static inline uint32_t random_below(struct random *random, uint32_t limit)
{
	return (uint32_t)((random_next(random) >> 32) * limit >> 32);
}

static inline int random_percent(struct random *random, uint32_t percent)
{
	return random_below(random, 100) < percent;
}

#define RANDOM_OF(random, list) ((list)[random_below(random, sizeof(list) / sizeof((list)[0]))])

#endif
