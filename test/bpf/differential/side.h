/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One compiled object, loaded with maps of its own, and what one packet does to it.
 *
 * Three things are not as the engine loads them, so that a packet costs two calls and nothing else: counters are one array that is
 * read through shared memory; a process's endpoint stands in such an array instead of its cgroup's storage, which a test-run does
 * not have; and what redirects a packet is noted (patch.h), since a test-run does not do what it says.
 */
#ifndef DIFFERENTIAL_SIDE_H
#define DIFFERENTIAL_SIDE_H

#include "../../../bpf/abi.h"
#include "plan.h"
#include "patch.h"

#include <bpf/libbpf.h>

#define PACKET_MAX 3400

/* The programs that packets come to first. */
enum hook {
	HOOK_FROM_POD,
	HOOK_TO_POD,
	HOOK_FROM_PROCESS,
	HOOK_TO_PROCESS,
	HOOK_FROM_PROXY,
	HOOK_RELEASE,
	HOOK_EXPLAIN,
	HOOKS,
};
extern const char *const hook_names[HOOKS];

/* A packet, where it appears and what it brings with it. */
struct trial {
	enum hook hook;
	uint32_t ifindex;
	uint32_t ingress_ifindex;
	uint32_t mark;
	uint32_t gso_size;
	uint32_t process;	/* endpoint id of the cgroup, for programs of processes */
	uint32_t asked;		/* enum direction, for explain: in priority, and in cb[0] where it looked before there were stages */
	uint32_t length;
	uint8_t bytes[PACKET_MAX];
};

struct outcome {
	int error;
	uint32_t returned;
	uint32_t mark;
	uint32_t answer[5];	/* of explain */
	uint32_t length;
	uint32_t left;		/* buffers that it did not give back */
	struct redirect redirect;
	uint8_t bytes[PACKET_MAX + 512];
};

struct ring {
	volatile uint64_t *consumer;
	const volatile uint64_t *producer;
	const uint8_t *data;
	uint64_t mask;
};

/* A map of buffers that programs take and give back: the first word of each says whether it is in use. */
struct buffers {
	uint8_t *memory;	/* NULL: this object has no such map */
	uint32_t size, count;
};
#define BUFFERS 2

struct side {
	enum side_id id;
	struct plan *plan;
	struct bpf_object *object;
	int maps[MAPS_MAX];		/* as plan->maps */
	int hooks[HOOKS];
	int gates[GATES];		/* open or not */
	struct counter *counters, *verdict_hits;
	struct engine_state *engine;	/* in this side's own layout */
	uint64_t *process;
	struct redirect *redirect;
	struct buffers buffers[BUFFERS];
	struct ring asks, flow_records;
};

void side_load(struct side *side, struct plan *plan, enum side_id id);
/* The descriptor of a program; ends the process where there is none. */
int side_program(struct side *side, const char *name);
void side_run(struct side *side, const struct trial *trial, struct outcome *outcome);
/* Opens or closes the stages that an engine, or its proxy, opens. */
void side_gate(struct side *side, enum stage_gate gate, int open);
/* The next record of a ring, or NULL; it stays until ring_next is called again. */
const uint8_t *ring_next(struct ring *ring, uint32_t *length);

/* Writes an entry, given in this tree's layout, to both. */
void sides_put(struct side sides[SIDES], const char *map, const void *key, const void *value);
void sides_delete(struct side sides[SIDES], const char *map, const void *key);
/* Empties every map. */
void sides_clear(struct side sides[SIDES]);
void sides_engine(struct side sides[SIDES], const struct engine_state *state);
/* Compares what the programs have written to maps; says where they differ, and returns in how many entries. */
int sides_compare(struct side sides[SIDES]);

#endif
