/* SPDX-License-Identifier: Apache-2.0 */
/* Loading an object for test-runs: see side.h for what is not as the engine does it. */
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

/* An array in shared memory in place of what the map is. */
static void map_share(struct bpf_object *object, const char *name)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, name);

	if (!map || bpf_map__set_type(map, BPF_MAP_TYPE_ARRAY) || bpf_map__set_map_flags(map, BPF_F_MMAPABLE))
		errx(2, "cannot share map %s", name);
}

/* An array of one entry in shared memory. */
static int cell_make(uint32_t size)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "cell", sizeof(uint32_t), size, 1, &options);

	if (map < 0)
		err(2, "cannot make a map");
	return map;
}

static void *cell_memory(int map)
{
	void *memory = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);

	if (memory == MAP_FAILED)
		err(2, "cannot map a cell");
	return memory;
}

static void *map_memory(struct bpf_object *object, const char *name)
{
	int map = bpf_object__find_map_fd_by_name(object, name);
	struct bpf_map_info info = {};
	uint32_t size = sizeof(info);
	void *memory;

	if (map < 0 || bpf_obj_get_info_by_fd(map, &info, &size))
		errx(2, "cannot look at map %s", name);
	memory = mmap(NULL, (size_t)info.max_entries * ((info.value_size + 7) & ~7u), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	if (memory == MAP_FAILED)
		err(2, "cannot map %s", name);
	return memory;
}

static void ring_open(struct bpf_object *object, const char *name, struct ring *ring)
{
	int map = bpf_object__find_map_fd_by_name(object, name);
	struct bpf_map_info info = {};
	uint32_t size = sizeof(info);
	long page = sysconf(_SC_PAGESIZE);
	uint8_t *memory;

	if (map < 0 || bpf_obj_get_info_by_fd(map, &info, &size))
		errx(2, "cannot look at ring %s", name);
	ring->consumer = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
	memory = mmap(NULL, (size_t)page + 2ul * info.max_entries, PROT_READ, MAP_SHARED, map, page);
	if (ring->consumer == MAP_FAILED || memory == MAP_FAILED)
		err(2, "cannot map ring %s", name);
	ring->producer = (const volatile uint64_t *)memory;
	ring->data = memory + page;
	ring->mask = info.max_entries - 1;
}

const uint8_t *ring_next(struct ring *ring, uint32_t *length)
{
	for (;;) {
		uint64_t at = *ring->consumer;
		const uint8_t *record = ring->data + (at & ring->mask);
		uint32_t header;

		if (at == *ring->producer)
			return NULL;
		header = *(const volatile uint32_t *)record;
		*length = header & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
		*ring->consumer = at + ((*length + BPF_RINGBUF_HDR_SZ + 7) & ~7ull);
		if (!(header & BPF_RINGBUF_DISCARD_BIT))
			return record + BPF_RINGBUF_HDR_SZ;
	}
}

static const char *const buffer_names[BUFFERS] = { "readings", "journeys" };

static void buffers_open(struct side *side, const char *name, struct buffers *buffers)
{
	struct bpf_map *map = bpf_object__find_map_by_name(side->object, name);

	if (!map)
		return;
	buffers->memory = map_memory(side->object, name);
	buffers->size = (bpf_map__value_size(map) + 7) & ~7u;
	buffers->count = bpf_map__max_entries(map);
}

/* Maps are this process's own; programs that a test-run cannot run are left out. */
static void object_prepare(struct side *side)
{
	struct bpf_object *object = side->object;
	struct bpf_map *map, *processes = bpf_object__find_map_by_name(object, "cgroup_ids");
	int process = cell_make(sizeof(uint64_t)), redirect = cell_make(sizeof(struct redirect));
	struct bpf_program *program;

	bpf_object__for_each_map(map, object)
		bpf_map__set_pin_path(map, NULL);
	bpf_object__for_each_program(program, object) {
		enum bpf_prog_type type = bpf_program__type(program);

		if (type != BPF_PROG_TYPE_SCHED_CLS && type != BPF_PROG_TYPE_CGROUP_SKB)
			bpf_program__set_autoload(program, false);
	}
	map_share(object, "counters");
	map_share(object, "verdict_hits");
	for (int i = 0; i < BUFFERS; i++)
		if (bpf_object__find_map_by_name(object, buffer_names[i]))
			map_share(object, buffer_names[i]);
	if (!processes || bpf_map__reuse_fd(processes, process))
		errx(2, "cannot share map cgroup_ids");
	patch_with(bpf_map__fd(processes), redirect);
	side->process = cell_memory(process);
	side->redirect = cell_memory(redirect);
}

void side_load(struct side *side, struct plan *plan, enum side_id id)
{
	memset(side, 0, sizeof(*side));
	side->id = id;
	side->plan = plan;
	side->object = bpf_object__open_file(plan->object[id], NULL);
	if (libbpf_get_error(side->object))
		errx(2, "cannot open %s", plan->object[id]);
	object_prepare(side);
	if (bpf_object__load(side->object))
		errx(2, "cannot load %s", plan->object[id]);
	for (uint32_t i = 0; i < plan->map_count; i++) {
		side->maps[i] = bpf_object__find_map_fd_by_name(side->object, plan->maps[i].name);
		if (side->maps[i] < 0)
			errx(2, "%s has no map %s", plan->object[id], plan->maps[i].name);
	}
	side->counters = map_memory(side->object, "counters");
	side->verdict_hits = map_memory(side->object, "verdict_hits");
	for (int i = 0; i < BUFFERS; i++)
		buffers_open(side, buffer_names[i], &side->buffers[i]);
	side->engine = map_memory(side->object, "engine_states");
	ring_open(side->object, "asks", &side->asks);
	ring_open(side->object, "flow_records", &side->flow_records);
	for (int hook = 0; hook < HOOKS; hook++)
		side->hooks[hook] = side_program(side, hook_names[hook]);
	side_gate(side, GATE_NONE, 1);
}
