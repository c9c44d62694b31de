/* SPDX-License-Identifier: Apache-2.0 */
#include "message.h"
#include "world.h"

#include <string.h>

#define HEADER 12
#define TYPE_A 1
#define TYPE_CNAME 5
#define TYPE_AAAA 28

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

uint32_t message_query(uint8_t *bytes, const struct plan_name *name, uint16_t id, uint16_t type, int below)
{
	uint32_t at = HEADER;

	memset(bytes, 0, HEADER);
	put16(bytes, id);
	put16(bytes + 2, 0x0100);
	put16(bytes + 4, 1);
	if (below) {
		memcpy(bytes + at, "\3wWw", 4);
		at += 4;
	}
	memcpy(bytes + at, name->wire, name->length);
	at += name->length;
	put16(bytes + at, type);
	put16(bytes + at + 2, 1);
	return at + 4;
}

static uint32_t record_write(uint8_t *bytes, uint32_t at, uint32_t name_at, uint16_t type, struct random *random)
{
	uint32_t size = type == TYPE_AAAA ? 16 : 4;
	struct address address = world_address(random, type != TYPE_AAAA);

	put16(bytes + at, 0xc000 | name_at);
	put16(bytes + at + 2, type);
	put16(bytes + at + 4, 1);
	put16(bytes + at + 6, 0);
	put16(bytes + at + 8, random_below(random, 2) ? 60 : 0);
	if (type == TYPE_CNAME) {
		put16(bytes + at + 10, 7);
		memcpy(bytes + at + 12, "\4edge\1x", 7);
		bytes[at + 17] = 1;
		bytes[at + 18] = 0;
		return at + 12 + 7;
	}
	put16(bytes + at + 10, size);
	memcpy(bytes + at + 12, address.bytes + 16 - size, size);
	return at + 12 + size;
}

uint32_t message_answer(uint8_t *bytes, uint32_t length, uint16_t type, struct random *random)
{
	uint32_t count = random_below(random, 5), name_at = HEADER, at = length;

	put16(bytes + 2, random_percent(random, 90) ? 0x8180 : 0x8380 + random_below(random, 6));
	put16(bytes + 6, count);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t record = at;
		int alias = i == 0 && random_percent(random, 30);

		at = record_write(bytes, at, name_at, alias ? TYPE_CNAME : type == TYPE_AAAA ? TYPE_AAAA : TYPE_A, random);
		if (alias)
			name_at = record + 12;
	}
	return at;
}

uint32_t message_spoil(uint8_t *bytes, uint32_t length, struct random *random)
{
	switch (random_below(random, 4)) {
	case 0:
		bytes[random_below(random, length)] = (uint8_t)random_next(random);
		return length;
	case 1:
		bytes[random_below(random, HEADER)] ^= (uint8_t)(1u << random_below(random, 8));
		return length;
	case 2:
		return 1 + random_below(random, length);
	default:
		put16(bytes + HEADER + random_below(random, length - HEADER - 1), 0xc000 | random_below(random, 64));
		return length;
	}
}
