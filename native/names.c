/* SPDX-License-Identifier: Apache-2.0 */
/* Taking away what endpoints know by names that are over, unless a connection still uses it. */
#include "internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 4096
#define SECOND_NS 1000000000ull

struct collecting {
	struct known_key *over;		/* sorted */
	uint8_t *used;
	uint32_t over_count;
	uint32_t capacity;
	uint32_t *kept;			/* endpoints of what stays, to be counted */
	uint32_t kept_count;
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

/* Reads every entry into one of the two lists. */
static int known_sort(int map, uint32_t limit_s, struct collecting *collecting)
{
	struct known_key *keys = calloc(BATCH, sizeof(*keys));
	struct known_address *values = calloc(BATCH, sizeof(*values));
	uint32_t position = 0, next = 0;
	int error = keys && values ? 0 : -ENOMEM;

	for (int first = 1; !error; first = 0) {
		uint32_t count = BATCH;

		error = bpf_map_lookup_batch(map, first ? NULL : &position, &next, keys, values, &count, NULL);
		if (error && error != -ENOENT)
			break;
		for (uint32_t i = 0; i < count; i++) {
			/* The map grows while it is read: what does not fit is looked at next time. */
			if (collecting->over_count + collecting->kept_count == collecting->capacity)
				break;
			if (known_is_over(&values[i], limit_s))
				collecting->over[collecting->over_count++] = keys[i];
			else
				collecting->kept[collecting->kept_count++] = keys[i].endpoint;
		}
		position = next;
	}
	free(keys);
	free(values);
	return error == -ENOENT ? 0 : error;
}

/* Marks what live connections use. */
static int known_mark(int connections, uint64_t now_ns, struct collecting *collecting)
{
	struct connection_key *keys = calloc(BATCH, sizeof(*keys));
	struct connection *values = calloc(BATCH, sizeof(*values));
	uint32_t position = 0, next = 0;
	int error = keys && values ? 0 : -ENOMEM;

	for (int first = 1; !error; first = 0) {
		uint32_t count = BATCH;

		error = bpf_map_lookup_batch(connections, first ? NULL : &position, &next, keys, values, &count, NULL);
		if (error && error != -ENOENT)
			break;
		for (uint32_t i = 0; i < count; i++) {
			struct known_key wanted = { .endpoint = keys[i].endpoint }, *found;

			if (values[i].expires_ns <= now_ns || values[i].direction != DIRECTION_EGRESS)
				continue;
			memcpy(wanted.address, keys[i].remote, sizeof(wanted.address));
			found = bsearch(&wanted, collecting->over, collecting->over_count, sizeof(wanted), key_compare);
			if (found)
				collecting->used[found - collecting->over] = 1;
		}
		position = next;
	}
	free(keys);
	free(values);
	return error == -ENOENT ? 0 : error;
}

/* Deletes what is over and not used; what was learned anew meanwhile is put back. Returns how many are gone, or -errno. */
static int known_remove(int map, uint32_t limit_s, struct collecting *collecting)
{
	int removed = 0;

	for (uint32_t i = 0; i < collecting->over_count; i++) {
		const struct known_key *key = &collecting->over[i];
		struct known_address value;
		int error;

		if (collecting->used[i]) {
			collecting->kept[collecting->kept_count++] = key->endpoint;
			continue;
		}
		error = bpf_map_lookup_and_delete_elem(map, key, &value);
		if (error == -ENOENT)
			continue;
		if (error)
			return error;
		if (known_is_over(&value, limit_s)) {
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

static int endpoint_compare(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
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

/* Writes how many addresses each endpoint knows. */
static int shares_write(int shares, struct collecting *collecting)
{
	uint32_t endpoint, *previous = NULL;
	int error;

	qsort(collecting->kept, collecting->kept_count, sizeof(*collecting->kept), endpoint_compare);
	while (!(error = bpf_map_get_next_key(shares, previous, &endpoint))) {
		struct name_share share;
		uint32_t addresses = kept_below(collecting, (uint64_t)endpoint + 1) - kept_below(collecting, endpoint);

		previous = &endpoint;
		if (bpf_map_lookup_elem(shares, &endpoint, &share) || share.addresses == addresses)
			continue;
		share.addresses = addresses;
		error = bpf_map_update_elem(shares, &endpoint, &share, BPF_EXIST);
		if (error && error != -ENOENT)
			return error;
	}
	return error == -ENOENT ? 0 : error;
}

int sluice_names__collect(int known, int connections, int shares, uint64_t now_ns, uint32_t grace_s, uint32_t *removed)
{
	uint32_t now_s = (uint32_t)(now_ns / SECOND_NS), limit_s = now_s > grace_s ? now_s - grace_s : 0;
	int capacity = sluice_map__size(known), error;
	struct collecting collecting = {};

	if (capacity < 0)
		return capacity;
	collecting.capacity = (uint32_t)capacity;
	collecting.over = calloc(collecting.capacity, sizeof(*collecting.over));
	collecting.kept = calloc(collecting.capacity, sizeof(*collecting.kept));
	collecting.used = calloc(collecting.capacity, 1);
	error = collecting.over && collecting.kept && collecting.used ? known_sort(known, limit_s, &collecting) : -ENOMEM;
	*removed = 0;
	if (!error && collecting.over_count) {
		qsort(collecting.over, collecting.over_count, sizeof(*collecting.over), key_compare);
		error = known_mark(connections, now_ns, &collecting);
		if (!error)
			error = known_remove(known, limit_s, &collecting);
		if (error > 0) {
			*removed = (uint32_t)error;
			error = 0;
		}
	}
	if (!error)
		error = shares_write(shares, &collecting);
	free(collecting.over);
	free(collecting.kept);
	free(collecting.used);
	return error ? error : (int)collecting.kept_count;
}
