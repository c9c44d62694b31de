/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring buffer's consumer that moves records into the caller's memory in one call, and beats the engine's heart.
 *
 * libbpf's own consumer calls back for each record and cannot stop where the caller's memory ends without losing one.
 */
#include "internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROUND_UP_8(n) (((n) + 7u) & ~7u)

struct sluice_ring {
	unsigned long *consumer;	/* read and write */
	unsigned long *producer;	/* read only, then the data twice in a row */
	const uint8_t *data;
	unsigned long mask;
	size_t page, producer_length;
	volatile struct engine_state *engine;
	int map, epoll, wake;
	int asks;			/* whether records are struct ask, cut to their packet */
};

static void ring_beat(struct sluice_ring *ring)
{
	if (ring->engine)
		ring->engine->heartbeat_ns = sluice_kernel__now_ns();
}

static int ring_watch(struct sluice_ring *ring, int descriptor)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = descriptor };

	return epoll_ctl(ring->epoll, EPOLL_CTL_ADD, descriptor, &event) ? -errno : 0;
}

static int ring_map_memory(struct sluice_ring *ring, uint32_t max_entries)
{
	void *memory = mmap(NULL, ring->page, PROT_READ | PROT_WRITE, MAP_SHARED, ring->map, 0);

	if (memory == MAP_FAILED)
		return -errno;
	ring->consumer = memory;
	ring->producer_length = ring->page + 2 * (size_t)max_entries;
	memory = mmap(NULL, ring->producer_length, PROT_READ, MAP_SHARED, ring->map, (off_t)ring->page);
	if (memory == MAP_FAILED)
		return -errno;
	ring->producer = memory;
	ring->data = (const uint8_t *)memory + ring->page;
	ring->mask = max_entries - 1;
	return 0;
}

int sluice_ring__open(int map, int engine_states, struct sluice_ring **result)
{
	struct sluice_ring *ring = calloc(1, sizeof(*ring));
	struct bpf_map_info info = {};
	uint32_t info_size = sizeof(info);
	int error;

	if (!ring)
		return -ENOMEM;
	ring->map = map;
	ring->page = (size_t)sysconf(_SC_PAGESIZE);
	ring->wake = -1;
	ring->epoll = epoll_create1(EPOLL_CLOEXEC);
	error = ring->epoll < 0 ? -errno : 0;
	if (!error) {
		ring->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		error = ring->wake < 0 ? -errno : bpf_obj_get_info_by_fd(map, &info, &info_size);
	}
	if (!error)
		error = ring_map_memory(ring, info.max_entries);
	if (!error && engine_states >= 0) {
		void *memory = mmap(NULL, ring->page, PROT_READ | PROT_WRITE, MAP_SHARED, engine_states, 0);

		if (memory == MAP_FAILED)
			error = -errno;
		else
			ring->engine = memory;
		ring->asks = 1;
	}
	if (!error)
		error = ring_watch(ring, map);
	if (!error)
		error = ring_watch(ring, ring->wake);
	if (error) {
		sluice_ring__close(ring);
		return error;
	}
	ring_beat(ring);
	*result = ring;
	return 0;
}

/* How much of a record the caller needs: a size class leaves a tail that nobody wrote. */
static uint32_t ring_record_length(const struct sluice_ring *ring, const uint8_t *record, uint32_t length)
{
	const struct ask *ask = (const struct ask *)record;

	if (!ring->asks || length < sizeof(*ask) || ask->length > length - sizeof(*ask))
		return length;
	return (uint32_t)sizeof(*ask) + ask->length;
}

static int ring_move(struct sluice_ring *ring, uint8_t *buffer, uint32_t capacity, uint32_t *bytes)
{
	unsigned long at = __atomic_load_n(ring->consumer, __ATOMIC_RELAXED);
	unsigned long end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
	struct sluice_record_header moved = {};
	int count = 0;

	*bytes = 0;
	while (at < end) {
		const uint8_t *header = ring->data + (at & ring->mask);
		uint32_t word = __atomic_load_n((const uint32_t *)header, __ATOMIC_ACQUIRE), length, needed;

		if (word & BPF_RINGBUF_BUSY_BIT)
			break;
		length = word & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
		if (!(word & BPF_RINGBUF_DISCARD_BIT)) {
			uint32_t wanted = ring_record_length(ring, header + BPF_RINGBUF_HDR_SZ, length);

			needed = (uint32_t)sizeof(moved) + ROUND_UP_8(wanted);
			if (*bytes + needed > capacity)
				break;
			moved.length = wanted;
			memcpy(buffer + *bytes, &moved, sizeof(moved));
			memcpy(buffer + *bytes + sizeof(moved), header + BPF_RINGBUF_HDR_SZ, wanted);
			*bytes += needed;
			count++;
		}
		at += ROUND_UP_8(length + BPF_RINGBUF_HDR_SZ);
		__atomic_store_n(ring->consumer, at, __ATOMIC_RELEASE);
	}
	return count;
}

int sluice_ring__drain(struct sluice_ring *ring, uint8_t *buffer, uint32_t capacity, int timeout_ms, uint32_t *bytes)
{
	struct epoll_event events[2];
	int count, ready;

	ring_beat(ring);
	count = ring_move(ring, buffer, capacity, bytes);
	if (count || !timeout_ms)
		return count;
	ready = epoll_wait(ring->epoll, events, 2, timeout_ms);
	ring_beat(ring);
	if (ready < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < ready; i++) {
		uint64_t ignored;

		if (events[i].data.fd == ring->wake && read(ring->wake, &ignored, sizeof(ignored)) < 0 && errno != EAGAIN)
			return -errno;
	}
	return ring_move(ring, buffer, capacity, bytes);
}

int sluice_ring__wake(struct sluice_ring *ring)
{
	uint64_t one = 1;

	return write(ring->wake, &one, sizeof(one)) < 0 && errno != EAGAIN ? -errno : 0;
}

void sluice_ring__close(struct sluice_ring *ring)
{
	if (ring->engine)
		munmap((void *)ring->engine, ring->page);
	if (ring->producer)
		munmap(ring->producer, ring->producer_length);
	if (ring->consumer)
		munmap(ring->consumer, ring->page);
	if (ring->wake >= 0)
		close(ring->wake);
	if (ring->epoll >= 0)
		close(ring->epoll);
	free(ring);
}
