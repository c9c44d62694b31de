/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The findings of differential.ts about the two objects: where their programs are reached, and where each field of their maps and
 * records stands in either.
 *
 * Keys, values and records are written here as this tree's bpf/abi.h has them, and translated for the other object.
 */
#ifndef DIFFERENTIAL_PLAN_H
#define DIFFERENTIAL_PLAN_H

#include <stdint.h>

#define PLAN_NAME 32
#define STAGES_MAX 64
#define MAPS_MAX 64
#define NAMES_MAX 16

/* In the order in which a packet goes through them. */
enum side_id {
	SIDE_OLD,
	SIDE_NEW,
	SIDES,
};

/* How a field is compared: both objects run one after the other, so that times differ by a little. */
enum leaf_kind {
	LEAF_EXACT,
	LEAF_NS,
	LEAF_S,
};

struct leaf {
	uint32_t at[SIDES];
	uint32_t size;
	enum leaf_kind kind;
};

/* A type as both objects have it. A field that only one of them has is not in leaves. */
struct layout {
	uint32_t size[SIDES];
	uint32_t leaf_count;
	struct leaf *leaves;
};

/* While what is there a stage is open. */
enum stage_gate {
	GATE_NONE,
	GATE_ENGINE,
	GATE_PROXY,
	GATES,
};

struct stage {
	char map[PLAN_NAME], program[PLAN_NAME];
	uint32_t index;
	enum stage_gate gate;
};

enum map_use {
	MAP_POLICY,	/* filled from outside */
	MAP_STATE,	/* written by programs, and compared */
};

struct map_plan {
	char name[PLAN_NAME];
	enum map_use use;
	int is_array;
	uint32_t max_entries;
	struct layout key, value;
};

/* A domain name that policy may know. */
struct plan_name {
	uint64_t hash;
	uint32_t length;
	uint8_t wire[256];
};

struct plan {
	char object[SIDES][256];
	struct stage stages[SIDES][STAGES_MAX];
	uint32_t stage_count[SIDES];
	struct map_plan maps[MAPS_MAX];
	uint32_t map_count;
	struct layout ask, flow_record;
	struct plan_name names[NAMES_MAX];
	uint32_t name_count;
};

/* Reads the plan, or ends the process with what is wrong with it. */
void plan_read(struct plan *plan, const char *path);
struct map_plan *plan_map(struct plan *plan, const char *name);
/* From this tree's layout to a side's, and back; what the other does not have is zero. */
void layout_to(const struct layout *layout, enum side_id side, const void *from, void *to);
void layout_from(const struct layout *layout, enum side_id side, const void *from, void *to);
/* Whether two values, each in its side's layout, say the same. at receives where in the new layout they do not. */
int layout_same(const struct layout *layout, const void *old, const void *new, uint32_t *at);

#endif
