/* SPDX-License-Identifier: Apache-2.0 */
/* Taking away what endpoints know by names that are over, unless a connection still uses it, and what endpoints knew that are gone. */
#include "internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS 1000000000ull
/* An endpoint that knows nothing and has asked nothing for so long needs no share: QUERY_NS in bpf/dns-query.h, and some. */
#define IDLE_NS (20 * SECOND_NS)

struct collecting {
	struct known_key *over;		/* sorted */
	uint8_t *used;
	uint64_t now_ns;
	uint32_t limit_s;		/* what ended before is over */
	uint32_t over_count;
	uint32_t capacity;
	uint32_t *kept;			/* endpoints of what stays, to be counted */
	uint32_t kept_count;
	uint32_t *endpoints;		/* that there are, sorted */
	uint32_t endpoint_count;
};

static int key_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct known_key));
}

static int known_is_over(const struct known_address *known, uint32_t limit_s)
{
	for (int i = 0; i < ABI_ADDRESS_PATTERNS; i++)
		if (known->patterns[i].expires_s > limit_s)
			return 0;
	return 1;
}

static int endpoint_compare(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int endpoint_exists(const struct collecting *collecting, uint32_t endpoint)
{
	return bsearch(&endpoint, collecting->endpoints, collecting->endpoint_count, sizeof(endpoint), endpoint_compare) != NULL;
}

static void endpoint_note(void *context, const void *key, const void *value)
{
	struct collecting *collecting = context;

	(void)value;
	if (collecting->endpoint_count < collecting->capacity)
		collecting->endpoints[collecting->endpoint_count++] = *(const uint32_t *)key;
}

/* Puts an entry on one of the two lists. The map grows while it is read: what does not fit is looked at next time. */
static void known_sort(void *context, const void *key, const void *value)
{
	struct collecting *collecting = context;
	const struct known_key *known = key;

	if (collecting->over_count + collecting->kept_count == collecting->capacity)
		return;
	if (known_is_over(value, collecting->limit_s) || !endpoint_exists(collecting, known->endpoint))
		collecting->over[collecting->over_count++] = *known;
	else
		collecting->kept[collecting->kept_count++] = known->endpoint;
}

/* Marks what a live connection uses. */
static void known_mark(void *context, const void *key, const void *value)
{
	struct collecting *collecting = context;
	const struct connection_key *connection_key = key;
	const struct connection *connection = value;
	struct known_key wanted = { .endpoint = connection_key->endpoint }, *found;

	if (connection->expires_ns <= collecting->now_ns || connection->direction != DIRECTION_EGRESS)
		return;
	memcpy(wanted.address, connection_key->remote, sizeof(wanted.address));
	found = bsearch(&wanted, collecting->over, collecting->over_count, sizeof(wanted), key_compare);
	if (found)
		collecting->used[found - collecting->over] = 1;
}

/* Deletes what is over and not used; what was learned anew meanwhile is put back. Returns how many are gone, or -errno. */
static int known_remove(int map, struct collecting *collecting)
{
	int removed = 0;

	for (uint32_t i = 0; i < collecting->over_count; i++) {
		const struct known_key *key = &collecting->over[i];
		struct known_address value;
		int error;

		int orphan = !endpoint_exists(collecting, key->endpoint);

		if (collecting->used[i] && !orphan) {
			collecting->kept[collecting->kept_count++] = key->endpoint;
			continue;
		}
		error = bpf_map_lookup_and_delete_elem(map, key, &value);
		if (error == -ENOENT)
			continue;
		if (error)
			return error;
		if (orphan || known_is_over(&value, collecting->limit_s)) {
			removed++;
			continue;
		}
		error = bpf_map_update_elem(map, key, &value, BPF_NOEXIST);
		if (error && error != -EEXIST)
			return error;
		collecting->kept[collecting->kept_count++] = key->endpoint;
	}
	return removed;
}

/* How many of the sorted endpoints are below one. */
static uint32_t kept_below(const struct collecting *collecting, uint64_t endpoint)
{
	uint32_t from = 0, to = collecting->kept_count;

	while (from < to) {
		uint32_t middle = from + (to - from) / 2;

		if (collecting->kept[middle] < endpoint)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

/* Writes how many addresses an endpoint knows; one that has been idle leaves, or endpoints that are gone would fill the map. */
static int share_write(int shares, uint32_t endpoint, const struct collecting *collecting)
{
	uint32_t addresses = kept_below(collecting, (uint64_t)endpoint + 1) - kept_below(collecting, endpoint);
	struct name_share share;
	int error;

	if (bpf_map_lookup_elem(shares, &endpoint, &share))
		return 0;
	if (!addresses && share.window_ns + IDLE_NS < collecting->now_ns)
		error = bpf_map_delete_elem(shares, &endpoint);
	else if (share.addresses != addresses) {
		share.addresses = addresses;
		error = bpf_map_update_elem(shares, &endpoint, &share, BPF_EXIST);
	} else {
		return 0;
	}
	return error == -ENOENT ? 0 : error;
}

static int shares_write(int shares, struct collecting *collecting)
{
	uint32_t endpoint, next;
	int more = bpf_map_get_next_key(shares, NULL, &endpoint);

	qsort(collecting->kept, collecting->kept_count, sizeof(*collecting->kept), endpoint_compare);
	while (!more) {
		int error;

		/* Before this one may leave: from a key that is gone, the walk would begin anew. */
		more = bpf_map_get_next_key(shares, &endpoint, &next);
		error = share_write(shares, endpoint, collecting);
		if (error)
			return error;
		endpoint = next;
	}
	return more == -ENOENT ? 0 : more;
}

/* Fills the lists, takes away what can go. Returns how many are gone, or -errno. */
static int collect(int known, int connections, int endpoints, struct collecting *collecting)
{
	int error = map_walk(endpoints, sizeof(uint32_t), sizeof(struct endpoint), endpoint_note, collecting);

	qsort(collecting->endpoints, collecting->endpoint_count, sizeof(*collecting->endpoints), endpoint_compare);
	if (!error)
		error = map_walk(known, sizeof(struct known_key), sizeof(struct known_address), known_sort, collecting);
	if (error || !collecting->over_count)
		return error;
	qsort(collecting->over, collecting->over_count, sizeof(*collecting->over), key_compare);
	error = map_walk(connections, sizeof(struct connection_key), sizeof(struct connection), known_mark, collecting);
	return error ? error : known_remove(known, collecting);
}

int sluice_names__collect(int known, int connections, int shares, int endpoints, uint64_t now_ns, uint32_t grace_s, uint32_t *removed)
{
	uint32_t now_s = (uint32_t)(now_ns / SECOND_NS);
	struct collecting collecting = { .now_ns = now_ns, .limit_s = now_s > grace_s ? now_s - grace_s : 0 };
	uint32_t sizes[3];
	int error = sluice_map__sizes(known, sizes);

	if (error)
		return error;
	error = -ENOMEM;
	collecting.capacity = sizes[2];
	collecting.over = calloc(collecting.capacity, sizeof(*collecting.over));
	collecting.kept = calloc(collecting.capacity, sizeof(*collecting.kept));
	collecting.used = calloc(collecting.capacity, 1);
	collecting.endpoints = calloc(collecting.capacity, sizeof(*collecting.endpoints));
	if (collecting.over && collecting.kept && collecting.used && collecting.endpoints)
		error = collect(known, connections, endpoints, &collecting);
	*removed = error > 0 ? (uint32_t)error : 0;
	if (error >= 0)
		error = shares_write(shares, &collecting);
	free(collecting.over);
	free(collecting.kept);
	free(collecting.used);
	free(collecting.endpoints);
	return error ? error : (int)collecting.kept_count;
}
