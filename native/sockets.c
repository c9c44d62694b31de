/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of the proxy, in turns: what is to be written is written, then what has come is read, and both are told in arrays
 * of fixed records. One call a turn, however many sockets have something to say.
 *
 * Bytes that came lie in the memory `in` until the next turn, and can be written on from there without being copied.
 */
#define _GNU_SOURCE
#include "sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define READY_MAX 256
#define ACCEPTED_MAX 64
/* Numbers in epoll's data that are no sockets': a listener is the first and its index. */
#define FIRST_LISTENER 0xfffffff0
#define THE_WAKER 0xffffffff

static int epoll_watch(struct sluice_sockets *sockets, int fd, uint32_t number)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = number };

	return epoll_ctl(sockets->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int sockets_watch(struct sluice_sockets *sockets)
{
	int error;

	sockets->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (sockets->epoll < 0)
		return -errno;
	sockets->waker = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (sockets->waker < 0)
		return -errno;
	error = epoll_watch(sockets, sockets->waker, THE_WAKER);
	for (uint32_t i = 0; i < PROXY_LISTENER_MAX && !error; i++)
		if (sockets->listeners[i] >= 0)
			error = epoll_watch(sockets, sockets->listeners[i], FIRST_LISTENER + i);
	return error;
}

int sluice_sockets__open(struct sluice_proxy *proxy, const int32_t *listeners, const struct sluice_sockets_memory *memory,
			 struct sluice_sockets **result)
{
	struct sluice_sockets *sockets = calloc(1, sizeof(*sockets));
	int error;

	if (!sockets)
		return -ENOMEM;
	sockets->proxy = proxy;
	sockets->memory = *memory;
	sockets->free = sockets->freed = NO_SOCKET;
	sockets->epoll = sockets->waker = -1;
	for (int i = 0; i < PROXY_LISTENER_MAX; i++)
		sockets->listeners[i] = listeners[i];
	error = sockets_watch(sockets);
	if (error)
		sluice_sockets__close(sockets);
	else
		*result = sockets;
	return error;
}

void sluice_sockets__close(struct sluice_sockets *sockets)
{
	if (sockets->proxy)
		sluice_proxy__close(sockets->proxy);
	for (uint32_t id = 0; id < sockets->count; id++) {
		if (!table_find(sockets, id))
			continue;
		socket_reset(sockets->table[id].fd);
		table_free(sockets, id);
	}
	for (int i = 0; i < PROXY_LISTENER_MAX; i++)
		if (sockets->listeners[i] >= 0)
			close(sockets->listeners[i]);
	if (sockets->waker >= 0)
		close(sockets->waker);
	if (sockets->epoll >= 0)
		close(sockets->epoll);
	free(sockets->table);
	free(sockets);
}

static int command_writes(const struct sluice_socket_command *command)
{
	return command->operation == SLUICE_SOCKET_WRITE_IN || command->operation == SLUICE_SOCKET_WRITE_OUT;
}

/* The bytes that a command names, or NULL where they are not in the memory. */
static const uint8_t *command_bytes(const struct sluice_sockets *sockets, const struct sluice_socket_command *command)
{
	int in = command->operation == SLUICE_SOCKET_WRITE_IN;
	uint64_t capacity = in ? sockets->memory.in_capacity : sockets->memory.out_capacity;

	if ((uint64_t)command->offset + command->length > capacity)
		return NULL;
	return (in ? sockets->memory.in : sockets->memory.out) + command->offset;
}

static void command_run(struct sluice_sockets *sockets, const struct sluice_socket_command *command, int more)
{
	struct proxy_socket *socket = table_find(sockets, command->id);
	const uint8_t *bytes;

	if (!socket)
		return;
	switch (command->operation) {
	case SLUICE_SOCKET_WRITE_IN:
	case SLUICE_SOCKET_WRITE_OUT:
		bytes = command_bytes(sockets, command);
		if (bytes)
			socket_write(sockets, command->id, bytes, command->length, more);
		return;
	case SLUICE_SOCKET_PAUSE:
	case SLUICE_SOCKET_RESUME:
		socket->paused = command->operation == SLUICE_SOCKET_PAUSE;
		socket_watch(sockets, command->id);
		return;
	case SLUICE_SOCKET_END:
		socket_finish(sockets, command->id, FINISH_END);
		return;
	case SLUICE_SOCKET_CLOSE:
		socket_finish(sockets, command->id, FINISH_CLOSE);
		return;
	case SLUICE_SOCKET_RESET:
		socket_reset(socket->fd);
		table_free(sockets, command->id);
		return;
	}
}

int sluice_sockets__commit(struct sluice_sockets *sockets)
{
	struct sluice_sockets_turn *turn = sockets->memory.turn;

	for (uint32_t i = 0; i < turn->command_count; i++) {
		const struct sluice_socket_command *command = &sockets->memory.commands[i], *next = command + 1;

		command_run(sockets, command, i + 1 < turn->command_count && next->id == command->id && command_writes(next));
	}
	turn->command_count = 0;
	return 0;
}

/* Takes new connections, as long as there is room to tell of them. */
static void listener_accept(struct sluice_sockets *sockets, enum proxy_listener index)
{
	const uint32_t size = sizeof(struct sluice_socket_ends);

	for (int i = 0; i < ACCEPTED_MAX && sockets->memory.in_capacity - sockets->used >= size; i++) {
		int fd = accept4(sockets->listeners[index], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1, id;

		if (fd < 0)
			return;
		/* Whoever connects to the loopback without having been sent there is nobody's client. */
		if (proxy_ends(sockets->proxy, (void *)(sockets->memory.in + sockets->used), fd, index)) {
			socket_reset(fd);
			sockets->memory.turn->refused_count++;
			continue;
		}
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		id = table_add(sockets, fd, SOCKET_OPEN);
		if (id < 0)
			continue;
		event_add(sockets, (uint32_t)id, SLUICE_SOCKET_ACCEPTED, sockets->used, size);
		sockets->used += (size + 7) & ~7u;
	}
}

static void sockets_ready(struct sluice_sockets *sockets, const struct epoll_event *ready)
{
	uint32_t number = ready->data.u32;
	uint64_t wakes;

	if (number == THE_WAKER)
		(void)!read(sockets->waker, &wakes, sizeof(wakes));
	else if (number >= FIRST_LISTENER)
		listener_accept(sockets, (enum proxy_listener)(number - FIRST_LISTENER));
	else
		socket_ready(sockets, number, ready->events);
}

int sluice_sockets__turn(struct sluice_sockets *sockets)
{
	struct sluice_sockets_turn *turn = sockets->memory.turn;
	struct epoll_event ready[READY_MAX];
	int count;

	turn->event_count = 0;
	sockets->used = 0;
	table_reuse(sockets);
	sluice_sockets__commit(sockets);
	if (sockets->proxy)
		proxy_beat(sockets->proxy);
	count = epoll_wait(sockets->epoll, ready, READY_MAX, turn->event_count ? 0 : turn->timeout_ms);
	if (count < 0 && errno != EINTR)
		return -errno;
	for (int i = 0; i < count; i++)
		sockets_ready(sockets, &ready[i]);
	return (int)turn->event_count;
}

int sluice_sockets__connect(struct sluice_sockets *sockets, const uint8_t *from, const uint8_t *to, uint32_t port)
{
	int fd = proxy_connect(sockets->proxy, from, to, port);

	return fd < 0 ? fd : table_add(sockets, fd, SOCKET_CONNECTING);
}

int sluice_sockets__take(struct sluice_sockets *sockets, uint32_t id)
{
	struct proxy_socket *socket = table_find(sockets, id);
	int fd;

	if (!socket)
		return -ENOENT;
	fd = socket->fd;
	(void)epoll_ctl(sockets->epoll, EPOLL_CTL_DEL, fd, NULL);
	table_free(sockets, id);
	return fd;
}

int sluice_sockets__wake(struct sluice_sockets *sockets)
{
	uint64_t one = 1;

	return write(sockets->waker, &one, sizeof(one)) < 0 && errno != EAGAIN ? -errno : 0;
}
