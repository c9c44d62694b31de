/* SPDX-License-Identifier: Apache-2.0 */
/* Counting tracked connections: an LRU map knows neither how full it is nor whose its entries are. */
#include "internal.h"

#include <stddef.h>

struct counting {
	struct sluice_connection_count *counts;
	uint64_t now_ns;
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

static void connection_count(void *context, const void *key, const void *value)
{
	struct counting *counting = context;
	const struct connection *connection = value;
	struct sluice_connection_count *found = count_of(counting, ((const struct connection_key *)key)->endpoint);

	if (found && connection->expires_ns > counting->now_ns)
		found->live++;
	else if (found)
		found->expired++;
}

int sluice_connections__count(int map, uint64_t now_ns, struct sluice_connection_count *counts, uint32_t capacity)
{
	struct counting counting = { .counts = counts, .now_ns = now_ns, .capacity = capacity };
	int error = map_walk(map, sizeof(struct connection_key), sizeof(struct connection), connection_count, &counting);

	return error ? error : (int)counting.used;
}
