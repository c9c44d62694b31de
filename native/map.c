/* SPDX-License-Identifier: Apache-2.0 */
/* Map entries in batches. */
#include "internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef ENOTSUPP
#define ENOTSUPP 524	/* the kernel's own, which batch calls return for map types without them */
#endif

/* Entries that map_walk reads at once. */
#define WALK_BATCH 4096

static int batch_unsupported(int error)
{
	return error == -ENOTSUPP || error == -EOPNOTSUPP || error == -EINVAL;
}

int sluice_map__update(int map, const void *keys, uint32_t key_size, const void *values, uint32_t value_size,
		       uint32_t count, uint32_t *done)
{
	LIBBPF_OPTS(bpf_map_batch_opts, options);
	int error;

	*done = count;
	error = count > 1 ? bpf_map_update_batch(map, keys, values, done, &options) : -ENOTSUPP;
	if (!batch_unsupported(error))
		return error;
	for (*done = 0; *done < count; ++*done) {
		error = bpf_map_update_elem(map, (const char *)keys + (size_t)*done * key_size,
					    (const char *)values + (size_t)*done * value_size, BPF_ANY);
		if (error)
			return error;
	}
	return 0;
}

/* One by one: a batch stops at the first entry that is not there, as it may be in a map that forgets by itself. */
int sluice_map__delete(int map, const void *keys, uint32_t key_size, uint32_t count, uint32_t *done)
{
	for (*done = 0; *done < count; ++*done) {
		int error = bpf_map_delete_elem(map, (const char *)keys + (size_t)*done * key_size);

		if (error && error != -ENOENT)
			return error;
	}
	return 0;
}

int sluice_map__sizes(int map, uint32_t sizes[3])
{
	struct bpf_map_info info = {};
	uint32_t size = sizeof(info);
	int error = bpf_obj_get_info_by_fd(map, &info, &size);

	if (error)
		return error;
	sizes[0] = info.key_size;
	sizes[1] = info.value_size;
	sizes[2] = info.max_entries;
	return 0;
}

int sluice_map__lookup(int map, const void *key, void *value)
{
	return bpf_map_lookup_elem(map, key, value);
}

int sluice_map__dump(int map, void *keys, uint32_t key_size, void *values, uint32_t value_size, uint32_t capacity)
{
	const void *previous = NULL;
	uint32_t count = 0;

	for (;;) {
		char *key = (char *)keys + (size_t)count * key_size;
		int error;

		/* The last slot is only for finding out whether there is more. */
		error = bpf_map_get_next_key(map, previous, key);
		if (error == -ENOENT)
			return (int)count;
		if (error)
			return error;
		if (count + 1 >= capacity)
			return -ENOSPC;
		previous = key;
		error = bpf_map_lookup_elem(map, key, (char *)values + (size_t)count * value_size);
		if (!error)
			count++;
		else if (error != -ENOENT)
			return error;
	}
}

int sluice_map__open(const char *pin_path)
{
	return bpf_obj_get(pin_path);
}

void sluice_map__close(int map)
{
	close(map);
}

int map_walk(int map, uint32_t key_size, uint32_t value_size,
	     void (*visit)(void *context, const void *key, const void *value), void *context)
{
	char *keys = calloc(WALK_BATCH, key_size), *values = calloc(WALK_BATCH, value_size);
	uint32_t position = 0, next = 0;
	int error = keys && values ? 0 : -ENOMEM;

	for (int first = 1; !error; first = 0) {
		uint32_t count = WALK_BATCH;

		error = bpf_map_lookup_batch(map, first ? NULL : &position, &next, keys, values, &count, NULL);
		if (error && error != -ENOENT)
			break;
		for (uint32_t i = 0; i < count; i++)
			visit(context, keys + (size_t)i * key_size, values + (size_t)i * value_size);
		position = next;
	}
	free(keys);
	free(values);
	return error == -ENOENT ? 0 : error;
}
