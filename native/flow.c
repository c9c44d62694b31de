/* SPDX-License-Identifier: Apache-2.0 */
/* A flow worker's turn: wait, move, write, release, on memory that was named when the thread began. */
#include "internal.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Packets wait for this thread: it goes before the compilers and collectors of its own process. */
#define FLOW_NICE -10

/* Of this thread, which ends with it. */
static __thread struct {
	struct sluice_flow_memory memory;
	struct sluice_ring *asks;
	struct sluice_release *release;
	int verdicts;
} flow;

int sluice_flow__open(struct sluice_ring *asks, struct sluice_release *release, int verdicts,
		      const struct sluice_flow_memory *memory)
{
	flow.memory = *memory;
	flow.asks = asks;
	flow.release = release;
	flow.verdicts = verdicts;
	/* A node that does not let us is slower at worst. */
	(void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), FLOW_NICE);
	return 0;
}

int sluice_flow__drain(void)
{
	const struct sluice_flow_memory *memory = &flow.memory;
	uint32_t bytes;

	if (!flow.asks)
		return -ENODEV;
	return sluice_ring__drain(flow.asks, memory->batch, (uint32_t)memory->batch_capacity, memory->turn->timeout_ms, &bytes);
}

int sluice_flow__settle(void)
{
	const struct sluice_flow_memory *memory = &flow.memory;
	uint32_t done, releases;
	int error;

	if (!flow.asks)
		return -ENODEV;
	releases = memory->turn->release_count;
	error = memory->turn->verdict_count ? sluice_map__update(flow.verdicts, memory->verdict_keys, sizeof(struct verdict_key),
								 memory->verdict_values, sizeof(struct verdict_entry),
								 memory->turn->verdict_count, &done)
					    : 0;
	if (error)
		return error;
	return (int)releases -
	       sluice_release__send(flow.release, memory->batch, memory->offsets, releases, memory->errors);
}
