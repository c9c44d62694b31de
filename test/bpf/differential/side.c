/* SPDX-License-Identifier: Apache-2.0 */
/* Running packets through a loaded object, and keeping the maps of both the same. */
#include "side.h"

#include <bpf/bpf.h>
#include <err.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* No key or value is larger. */
#define ENTRY_MAX 1024
#define BATCH 4096

const char *const hook_names[HOOKS] = { "from_pod", "to_pod", "from_process", "to_process", "from_proxy", "release", "explain" };

int side_program(struct side *side, const char *name)
{
	struct bpf_program *program = bpf_object__find_program_by_name(side->object, name);
	int fd = program ? bpf_program__fd(program) : -1;

	if (fd < 0)
		errx(2, "%s has no program %s", side->plan->object[side->id], name);
	return fd;
}

/* Takes back what a program has not given back: a fault of its own, which would hide all others. */
static uint32_t buffers_free(struct side *side)
{
	uint32_t left = 0;

	for (int i = 0; i < BUFFERS; i++) {
		const struct buffers *buffers = &side->buffers[i];

		for (uint32_t at = 0; at < (buffers->memory ? buffers->count : 0); at++) {
			uint32_t *busy = (uint32_t *)(buffers->memory + (size_t)at * buffers->size);

			left += *busy != 0;
			*busy = 0;
		}
	}
	return left;
}

void side_run(struct side *side, const struct trial *trial, struct outcome *outcome)
{
	struct __sk_buff in = { .ifindex = trial->ifindex, .ingress_ifindex = trial->ingress_ifindex, .mark = trial->mark,
				.gso_size = trial->gso_size, .cb = { trial->asked }, .priority = trial->asked }, out = {};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = trial->bytes, .data_size_in = trial->length, .data_out = outcome->bytes,
		    .data_size_out = sizeof(outcome->bytes), .ctx_in = &in, .ctx_size_in = sizeof(in), .ctx_out = &out,
		    .ctx_size_out = sizeof(out), .repeat = 1);

	*side->process = trial->process;
	memset(side->redirect, 0, sizeof(*side->redirect));
	outcome->error = bpf_prog_test_run_opts(side->hooks[trial->hook], &options);
	outcome->returned = options.retval;
	outcome->length = outcome->error ? 0 : options.data_size_out;
	outcome->mark = out.mark;
	memset(outcome->answer, 0, sizeof(outcome->answer));
	if (trial->hook == HOOK_EXPLAIN)
		memcpy(outcome->answer, out.cb, sizeof(outcome->answer));
	outcome->redirect = *side->redirect;
	outcome->left = buffers_free(side);
}

void side_gate(struct side *side, enum stage_gate gate, int open)
{
	/* The kernel waits for all processors when a stage is closed. */
	if (side->gates[gate] == open)
		return;
	side->gates[gate] = open;
	for (uint32_t i = 0; i < side->plan->stage_count[side->id]; i++) {
		const struct stage *stage = &side->plan->stages[side->id][i];
		int map = bpf_object__find_map_fd_by_name(side->object, stage->map), error, program;

		if (stage->gate != gate)
			continue;
		if (map < 0)
			errx(2, "%s has no map %s", side->plan->object[side->id], stage->map);
		program = open ? side_program(side, stage->program) : -1;
		error = open ? bpf_map_update_elem(map, &stage->index, &program, BPF_ANY) : bpf_map_delete_elem(map, &stage->index);
		if (error && error != -ENOENT)
			errx(2, "stage %s: %s", stage->program, strerror(-error));
	}
}

void sides_put(struct side sides[SIDES], const char *name, const void *key, const void *value)
{
	struct map_plan *map = plan_map(sides->plan, name);
	uint8_t its_key[ENTRY_MAX], its_value[ENTRY_MAX];

	for (int id = SIDE_OLD; id < SIDES; id++) {
		int error;

		layout_to(&map->key, id, key, its_key);
		layout_to(&map->value, id, value, its_value);
		error = bpf_map_update_elem(sides[id].maps[map - sides->plan->maps], its_key, its_value, BPF_ANY);
		if (error)
			errx(2, "cannot write to map %s: %s", name, strerror(-error));
	}
}

void sides_delete(struct side sides[SIDES], const char *name, const void *key)
{
	struct map_plan *map = plan_map(sides->plan, name);
	uint8_t its_key[ENTRY_MAX];

	for (int id = SIDE_OLD; id < SIDES; id++) {
		layout_to(&map->key, id, key, its_key);
		bpf_map_delete_elem(sides[id].maps[map - sides->plan->maps], its_key);
	}
}

static void array_clear(const struct map_plan *map, int fd, uint32_t value_size)
{
	uint8_t *values = calloc(map->max_entries, value_size);
	uint32_t *keys = calloc(map->max_entries, sizeof(*keys)), count = map->max_entries;

	for (uint32_t i = 0; i < count; i++)
		keys[i] = i;
	if (bpf_map_update_batch(fd, keys, values, &count, NULL))
		errx(2, "cannot clear map %s", map->name);
	free(values);
	free(keys);
}

/* The next key is known before one leaves: from the beginning, each would be looked for in all the buckets that are empty by then. */
static void hash_clear(int fd)
{
	uint8_t key[ENTRY_MAX], next[ENTRY_MAX];
	int last = bpf_map_get_next_key(fd, NULL, key);

	while (!last) {
		last = bpf_map_get_next_key(fd, key, next);
		bpf_map_delete_elem(fd, key);
		memcpy(key, next, sizeof(key));
	}
}

void sides_clear(struct side sides[SIDES])
{
	for (uint32_t i = 0; i < sides->plan->map_count; i++) {
		const struct map_plan *map = &sides->plan->maps[i];

		for (int id = SIDE_OLD; id < SIDES; id++)
			if (map->is_array)
				array_clear(map, sides[id].maps[i], map->value.size[id]);
			else
				hash_clear(sides[id].maps[i]);
	}
}

void sides_engine(struct side sides[SIDES], const struct engine_state *state)
{
	const struct layout *layout = &plan_map(sides->plan, "engine_states")->value;
	uint8_t bytes[ENTRY_MAX];

	for (int id = SIDE_OLD; id < SIDES; id++) {
		layout_to(layout, id, state, bytes);
		memcpy(sides[id].engine, bytes, layout->size[id]);
	}
}

static void hex_print(const char *what, const uint8_t *bytes, uint32_t length)
{
	printf("    %s ", what);
	for (uint32_t i = 0; i < length; i++)
		printf("%02x", bytes[i]);
	printf("\n");
}

static void entry_report(const struct map_plan *map, const void *key, const uint8_t *old, const uint8_t *new, uint32_t at)
{
	printf("  map %s: an entry is not the same (at %u)\n", map->name, at);
	hex_print("key", key, map->key.size[SIDE_OLD]);
	if (old)
		hex_print("old", old, map->value.size[SIDE_OLD]);
	if (new)
		hex_print("new", new, map->value.size[SIDE_NEW]);
}

static int array_compare(struct side sides[SIDES], uint32_t index)
{
	const struct map_plan *map = &sides->plan->maps[index];
	uint8_t *values[SIDES];
	uint32_t *keys = calloc(map->max_entries, sizeof(*keys)), at;
	int differences = 0;

	for (int id = SIDE_OLD; id < SIDES; id++) {
		uint32_t count = map->max_entries, position;

		values[id] = calloc(map->max_entries, map->value.size[id]);
		bpf_map_lookup_batch(sides[id].maps[index], NULL, &position, keys, values[id], &count, NULL);
		if (count != map->max_entries)
			errx(2, "cannot read map %s", map->name);
	}
	for (uint32_t i = 0; i < map->max_entries; i++) {
		const uint8_t *old = values[SIDE_OLD] + (size_t)i * map->value.size[SIDE_OLD];
		const uint8_t *new = values[SIDE_NEW] + (size_t)i * map->value.size[SIDE_NEW];

		if (layout_same(&map->value, old, new, &at))
			continue;
		if (!differences++)
			entry_report(map, &i, old, new, at);
	}
	free(values[SIDE_OLD]);
	free(values[SIDE_NEW]);
	free(keys);
	return differences;
}

static uint32_t hash_count(int fd)
{
	uint8_t key[ENTRY_MAX], next[ENTRY_MAX];
	uint32_t count = 0;

	for (void *previous = NULL; !bpf_map_get_next_key(fd, previous, next); count++) {
		memcpy(key, next, sizeof(key));
		previous = key;
	}
	return count;
}

static int hash_compare(struct side sides[SIDES], uint32_t index)
{
	const struct map_plan *map = &sides->plan->maps[index];
	uint8_t key[ENTRY_MAX], next[ENTRY_MAX], common[ENTRY_MAX], new_key[ENTRY_MAX], old[ENTRY_MAX], new[ENTRY_MAX];
	uint32_t count = 0, at = 0;
	int differences = 0;

	for (void *previous = NULL; !bpf_map_get_next_key(sides[SIDE_OLD].maps[index], previous, next); count++) {
		int absent;

		memcpy(key, next, sizeof(key));
		previous = key;
		layout_from(&map->key, SIDE_OLD, key, common);
		layout_to(&map->key, SIDE_NEW, common, new_key);
		if (bpf_map_lookup_elem(sides[SIDE_OLD].maps[index], key, old))
			continue;
		absent = bpf_map_lookup_elem(sides[SIDE_NEW].maps[index], new_key, new);
		if (!absent && layout_same(&map->value, old, new, &at))
			continue;
		if (!differences++)
			entry_report(map, key, old, absent ? NULL : new, at);
	}
	if (count != hash_count(sides[SIDE_NEW].maps[index])) {
		printf("  map %s: %u entries, and %u in the new one\n", map->name, count, hash_count(sides[SIDE_NEW].maps[index]));
		differences++;
	}
	return differences;
}

int sides_compare(struct side sides[SIDES])
{
	int differences = 0;

	for (uint32_t i = 0; i < sides->plan->map_count; i++)
		if (sides->plan->maps[i].use == MAP_STATE)
			differences += sides->plan->maps[i].is_array ? array_compare(sides, i) : hash_compare(sides, i);
	return differences;
}
