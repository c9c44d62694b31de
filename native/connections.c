/* SPDX-License-Identifier: Apache-2.0 */
/* Counting tracked connections: an LRU map knows neither how full it is nor whose its entries are. */
#include "internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>

#define BATCH 4096

struct counting {
	struct sluice_connection_count *counts;
	uint32_t capacity;
	uint32_t used;
};

/* The entry of an endpoint; there are few, and mostly the one that was asked for last. */
static struct sluice_connection_count *count_of(struct counting *counting, uint32_t endpoint)
{
	for (uint32_t i = counting->used; i-- > 0;)
		if (counting->counts[i].endpoint == endpoint)
			return &counting->counts[i];
	if (counting->used == counting->capacity)
		return NULL;
	counting->counts[counting->used] = (struct sluice_connection_count){ .endpoint = endpoint };
	return &counting->counts[counting->used++];
}

int sluice_connections__count(int map, uint64_t now_ns, struct sluice_connection_count *counts, uint32_t capacity)
{
	struct counting counting = { .counts = counts, .capacity = capacity };
	struct connection_key *keys = calloc(BATCH, sizeof(*keys));
	struct connection *values = calloc(BATCH, sizeof(*values));
	uint32_t position = 0, next = 0;
	int error = keys && values ? 0 : -ENOMEM;

	for (int first = 1; !error; first = 0) {
		uint32_t count = BATCH;

		error = bpf_map_lookup_batch(map, first ? NULL : &position, &next, keys, values, &count, NULL);
		if (error && error != -ENOENT)
			break;
		for (uint32_t i = 0; i < count; i++) {
			struct sluice_connection_count *found = count_of(&counting, keys[i].endpoint);

			if (found && values[i].expires_ns > now_ns)
				found->live++;
			else if (found)
				found->expired++;
		}
		position = next;
	}
	free(keys);
	free(values);
	return error == -ENOENT ? (int)counting.used : error;
}
