/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of the proxy, in turns: what is to be written is written, then what has come is read, and both are told in arrays
 * of fixed records. One call a turn, however many connections have something to say.
 *
 * Bytes that came lie in the memory `in` until the next turn, and can be written on from there without being copied.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define READY_MAX 256
#define ACCEPTED_MAX 64
/*
 * What is read of one connection at once: much, for a large body goes through in fewer turns, but little where a lot waits for clients
 * that do not take it.
 */
#define READ_BYTES (1024 * 1024)
#define READ_BYTES_LESS (16 * 1024)
#define READ_BYTES_LEAST (4 * 1024)
/* Kept for a connection that is not there yet, before its sender is told to wait. */
#define CONNECTING_BYTES (64u * 1024)
#define PENDING_MUCH (32u * 1024 * 1024)
#define PENDING_MOST (96u * 1024 * 1024)
/* How long a closed connection may take nothing of what is left for it. */
#define CLOSING_MS 30000
/* Numbers in epoll's data that are no streams: a listener is the first and its index. */
#define FIRST_LISTENER 0xfffffff0
#define THE_WAKER 0xffffffff

struct stream {
	int socket;		/* -1: this number is free */
	uint32_t watched;	/* epoll events that are asked for */
	uint8_t paused;		/* nothing is read */
	uint8_t ended;		/* the other side says no more */
	uint8_t connecting;
	uint8_t finish;		/* enum stream_finish, when everything is written */
	uint8_t told;		/* that not everything could be written */
	uint8_t gone;		/* it was told that it is gone: only its close is to come */
	struct backlog backlog;	/* what could not be written yet */
	uint32_t next_free;
};

enum stream_finish {
	FINISH_NOTHING,
	FINISH_END,
	FINISH_CLOSE,
};

struct sluice_streams {
	int waker;
};

/* One thread serves at a time; the next one closes what the one before has left. */
static struct {
	struct sluice_streams_memory memory;
	struct sluice_streams *handle;
	struct stream *streams;
	uint32_t count, room, free;
	uint32_t freed;		/* between two turns: events may still name these numbers */
	int in_turn;
	int epoll, listeners[PROXY_LISTENER_MAX];
	uint32_t used;		/* of the memory `in`, in this turn */
} loop;

#define NONE 0xffffffff

/* Breaks a connection off at once. */
static void socket_reset(int socket)
{
	struct linger now = { .l_onoff = 1 };

	(void)setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(socket);
}

static void stream_watch(uint32_t id, struct stream *stream)
{
	uint32_t wanted = (stream->paused || stream->ended ? 0 : EPOLLIN) |
			  (stream->connecting || backlog_length(&stream->backlog) ? EPOLLOUT : 0);
	struct epoll_event event = { .events = wanted, .data.u32 = id };

	if (wanted == stream->watched)
		return;
	stream->watched = wanted;
	(void)epoll_ctl(loop.epoll, EPOLL_CTL_MOD, stream->socket, &event);
}

/* Returns the number of a new stream, or -errno; the socket is closed then. */
static int stream_add(int socket, int connecting)
{
	struct epoll_event event = { .events = EPOLLIN | (connecting ? EPOLLOUT : 0) };
	uint32_t id = loop.free;
	int error;

	if (id == NONE) {
		if (loop.count == loop.room) {
			uint32_t room = loop.room ? loop.room * 2 : 1024;
			struct stream *grown = realloc(loop.streams, room * sizeof(*grown));

			if (!grown) {
				close(socket);
				return -ENOMEM;
			}
			loop.streams = grown;
			loop.room = room;
		}
		id = loop.count++;
	} else {
		loop.free = loop.streams[id].next_free;
	}
	loop.streams[id] = (struct stream){ .socket = socket, .watched = event.events, .connecting = (uint8_t)connecting };
	event.data.u32 = id;
	if (!epoll_ctl(loop.epoll, EPOLL_CTL_ADD, socket, &event))
		return (int)id;
	error = -errno;
	close(socket);
	loop.streams[id].socket = -1;
	loop.streams[id].next_free = loop.free;
	loop.free = id;
	return error;
}

static void stream_free(uint32_t id, struct stream *stream)
{
	backlog_forget(&stream->backlog);
	stream->socket = -1;
	stream->next_free = loop.in_turn ? loop.free : loop.freed;
	*(loop.in_turn ? &loop.free : &loop.freed) = id;
}

static void stream_close(uint32_t id, struct stream *stream)
{
	close(stream->socket);
	stream_free(id, stream);
}

static void event_add(uint32_t id, uint32_t kind, uint32_t offset, uint32_t length)
{
	struct sluice_streams_turn *turn = loop.memory.turn;

	if (turn->event_count < loop.memory.event_capacity)
		loop.memory.events[turn->event_count++] = (struct sluice_stream_event){ id, kind, offset, length };
}

/* Nothing more comes of it; it is closed when that is asked for. */
static void stream_lose(uint32_t id, struct stream *stream, int error)
{
	if (stream->gone)
		return;
	stream->gone = 1;
	backlog_forget(&stream->backlog);
	(void)epoll_ctl(loop.epoll, EPOLL_CTL_DEL, stream->socket, NULL);
	if (stream->finish == FINISH_CLOSE)
		stream_close(id, stream);
	else
		event_add(id, SLUICE_STREAM_GONE, 0, (uint32_t)error);
}

static void stream_finish(uint32_t id, struct stream *stream)
{
	if (stream->finish == FINISH_CLOSE) {
		stream_close(id, stream);
		return;
	}
	if (stream->finish == FINISH_END)
		(void)shutdown(stream->socket, SHUT_WR);
	stream->finish = FINISH_NOTHING;
	stream_watch(id, stream);
}

static void stream_write(uint32_t id, struct stream *stream, const uint8_t *bytes, uint32_t length, int more)
{
	ssize_t sent = 0;

	if (stream->gone)
		return;
	if (!backlog_length(&stream->backlog) && !stream->connecting) {
		sent = send(stream->socket, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));
		if (sent < 0 && errno != EAGAIN && errno != EINTR) {
			stream_lose(id, stream, errno);
			return;
		}
		if (sent < 0)
			sent = 0;
	}
	if ((uint32_t)sent == length)
		return;
	if (backlog_keep(&stream->backlog, bytes + sent, length - (uint32_t)sent)) {
		stream_lose(id, stream, ENOBUFS);
		return;
	}
	if (!stream->told && (!stream->connecting || backlog_length(&stream->backlog) > CONNECTING_BYTES)) {
		stream->told = 1;
		event_add(id, SLUICE_STREAM_BLOCKED, 0, backlog_length(&stream->backlog));
	}
	stream_watch(id, stream);
}

/* The other side takes more. */
static void stream_flush(uint32_t id, struct stream *stream)
{
	int error;

	if (stream->connecting) {
		stream->connecting = 0;
		event_add(id, SLUICE_STREAM_CONNECTED, 0, 0);
	}
	error = backlog_send(&stream->backlog, stream->socket);
	if (error) {
		stream_lose(id, stream, -error);
		return;
	}
	if (!backlog_length(&stream->backlog)) {
		backlog_forget(&stream->backlog);
		if (stream->told) {
			stream->told = 0;
			event_add(id, SLUICE_STREAM_DRAINED, 0, 0);
		}
		if (stream->finish) {
			stream_finish(id, stream);
			return;
		}
	}
	stream_watch(id, stream);
}

static void command_run(const struct sluice_stream_command *command, int more)
{
	struct stream *stream;

	if (command->id >= loop.count)
		return;
	stream = &loop.streams[command->id];
	if (stream->socket < 0)
		return;
	switch (command->operation) {
	case SLUICE_STREAM_WRITE_IN:
		if ((uint64_t)command->offset + command->length <= loop.memory.in_capacity)
			stream_write(command->id, stream, loop.memory.in + command->offset, command->length, more);
		return;
	case SLUICE_STREAM_WRITE_OUT:
		if ((uint64_t)command->offset + command->length <= loop.memory.out_capacity)
			stream_write(command->id, stream, loop.memory.out + command->offset, command->length, more);
		return;
	case SLUICE_STREAM_PAUSE:
	case SLUICE_STREAM_RESUME:
		stream->paused = command->operation == SLUICE_STREAM_PAUSE;
		if (!stream->gone)
			stream_watch(command->id, stream);
		return;
	case SLUICE_STREAM_END:
	case SLUICE_STREAM_CLOSE:
		/* Nobody looks after it any more: who takes nothing of what is left loses it. */
		if (command->operation == SLUICE_STREAM_CLOSE && backlog_length(&stream->backlog))
			(void)setsockopt(stream->socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &(unsigned){ CLOSING_MS }, sizeof(unsigned));
		stream->finish = command->operation == SLUICE_STREAM_END ? FINISH_END : FINISH_CLOSE;
		if (stream->gone || (!backlog_length(&stream->backlog) && !stream->connecting))
			stream_finish(command->id, stream);
		return;
	case SLUICE_STREAM_RESET:
		socket_reset(stream->socket);
		stream_free(command->id, stream);
		return;
	}
}

static void streams_commit(void)
{
	struct sluice_streams_turn *turn = loop.memory.turn;

	for (uint32_t i = 0; i < turn->command_count; i++) {
		const struct sluice_stream_command *command = &loop.memory.commands[i], *next = command + 1;
		int more = i + 1 < turn->command_count && next->id == command->id &&
			   (next->operation == SLUICE_STREAM_WRITE_IN || next->operation == SLUICE_STREAM_WRITE_OUT);

		command_run(command, more);
	}
	turn->command_count = 0;
}

/* Takes new connections, as long as there is room to tell of them. */
static void listener_accept(enum proxy_listener index)
{
	for (int i = 0; i < ACCEPTED_MAX && loop.memory.in_capacity - loop.used >= sizeof(struct sluice_stream_ends); i++) {
		int socket = accept4(loop.listeners[index], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1, id;

		if (socket < 0)
			return;
		/* Whoever connects to the loopback without having been sent there is nobody's client. */
		if (proxy_ends((void *)(loop.memory.in + loop.used), socket, index)) {
			socket_reset(socket);
			loop.memory.turn->refused_count++;
			continue;
		}
		(void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		id = stream_add(socket, 0);
		if (id < 0)
			continue;
		event_add((uint32_t)id, SLUICE_STREAM_ACCEPTED, loop.used, sizeof(struct sluice_stream_ends));
		loop.used += (sizeof(struct sluice_stream_ends) + 7) & ~7u;
	}
}

/* So that no endpoint's share of clients (half of 32,768), each with what was read for it at once, comes to the bound of all. */
static size_t read_most(void)
{
	uint32_t pending = backlog_total();

	return pending > PENDING_MOST ? READ_BYTES_LEAST : pending > PENDING_MUCH ? READ_BYTES_LESS : READ_BYTES;
}

static void stream_read(uint32_t id, struct stream *stream)
{
	size_t room = loop.memory.in_capacity - loop.used, most = read_most();
	ssize_t length;

	if (room < READ_BYTES_LESS)
		return;		/* in the next turn: epoll says so again */
	length = recv(stream->socket, loop.memory.in + loop.used, most < room ? most : room, MSG_DONTWAIT);
	if (length > 0) {
		event_add(id, SLUICE_STREAM_DATA, loop.used, (uint32_t)length);
		loop.used += ((uint32_t)length + 7) & ~7u;
	} else if (!length) {
		stream->ended = 1;
		event_add(id, SLUICE_STREAM_ENDED, 0, 0);
		stream_watch(id, stream);
	} else if (errno != EAGAIN && errno != EINTR) {
		stream_lose(id, stream, errno);
	}
}

static void stream_ready(uint32_t id, uint32_t events)
{
	struct stream *stream = &loop.streams[id];

	if (id >= loop.count || stream->socket < 0 || stream->gone)
		return;
	if (events & EPOLLERR) {
		int error = 0;
		socklen_t length = sizeof(error);

		(void)getsockopt(stream->socket, SOL_SOCKET, SO_ERROR, &error, &length);
		/* What came before the error is worth reading. */
		if (events & EPOLLIN)
			stream_read(id, stream);
		stream_lose(id, stream, error ? error : EIO);
		return;
	}
	if (events & EPOLLOUT)
		stream_flush(id, stream);
	if (stream->socket < 0 || stream->gone)
		return;
	if (events & EPOLLIN)
		stream_read(id, stream);
	else if (events & EPOLLHUP)
		stream_lose(id, stream, 0);
}

/* Resets what a thread that has ended served: nobody would answer its clients any more. */
static void streams_abandon(void)
{
	for (uint32_t id = 0; id < loop.count; id++) {
		struct stream *stream = &loop.streams[id];

		if (stream->socket < 0)
			continue;
		socket_reset(stream->socket);
		backlog_forget(&stream->backlog);
	}
	free(loop.streams);
	close(loop.epoll);
	for (int i = 0; i < PROXY_LISTENER_MAX; i++)
		if (loop.listeners[i] >= 0)
			close(loop.listeners[i]);
	close(loop.handle->waker);
	free(loop.handle);
	memset(&loop, 0, sizeof(loop));
}

static int epoll_watch(int socket, uint32_t number)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = number };

	return epoll_ctl(loop.epoll, EPOLL_CTL_ADD, socket, &event) ? -errno : 0;
}

int sluice_streams__open(const int32_t *listeners, const struct sluice_streams_memory *memory, struct sluice_streams **result)
{
	struct sluice_streams *handle = calloc(1, sizeof(*handle));
	int error = 0;

	if (!handle)
		return -ENOMEM;
	if (loop.handle)
		streams_abandon();
	loop.memory = *memory;
	loop.handle = handle;
	loop.free = loop.freed = NONE;
	handle->waker = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	loop.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (handle->waker < 0 || loop.epoll < 0)
		error = -errno;
	error = error ? error : epoll_watch(handle->waker, THE_WAKER);
	for (uint32_t i = 0; i < PROXY_LISTENER_MAX; i++) {
		loop.listeners[i] = listeners[i];
		if (!error && listeners[i] >= 0)
			error = epoll_watch(listeners[i], FIRST_LISTENER + i);
	}
	if (!error) {
		*result = handle;
		return 0;
	}
	close(handle->waker);
	close(loop.epoll);
	free(handle);
	loop.handle = NULL;
	return error;
}

int sluice_streams__turn(void)
{
	struct sluice_streams_turn *turn = loop.memory.turn;
	struct epoll_event ready[READY_MAX];
	int count;

	if (!loop.handle)
		return -ENODEV;
	turn->event_count = 0;
	loop.used = 0;
	loop.in_turn = 1;
	while (loop.freed != NONE) {
		uint32_t id = loop.freed;

		loop.freed = loop.streams[id].next_free;
		loop.streams[id].next_free = loop.free;
		loop.free = id;
	}
	streams_commit();
	proxy_beat();
	count = epoll_wait(loop.epoll, ready, READY_MAX, turn->event_count ? 0 : turn->timeout_ms);
	for (int i = 0; i < count; i++) {
		uint64_t wakes;

		if (ready[i].data.u32 == THE_WAKER)
			(void)!read(loop.handle->waker, &wakes, sizeof(wakes));
		else if (ready[i].data.u32 >= FIRST_LISTENER)
			listener_accept((enum proxy_listener)(ready[i].data.u32 - FIRST_LISTENER));
		else
			stream_ready(ready[i].data.u32, ready[i].events);
	}
	loop.in_turn = 0;
	return count < 0 && errno != EINTR ? -errno : (int)turn->event_count;
}

int sluice_streams__commit(void)
{
	if (!loop.handle)
		return -ENODEV;
	streams_commit();
	return 0;
}

int sluice_streams__connect(const uint8_t *from, const uint8_t *to, uint32_t port)
{
	int connection = sluice_proxy__connect(from, to, port);

	return connection < 0 ? connection : stream_add(connection, 1);
}

int sluice_streams__take(uint32_t id)
{
	struct stream *stream;
	int socket;

	if (id >= loop.count || loop.streams[id].socket < 0)
		return -ENOENT;
	stream = &loop.streams[id];
	socket = stream->socket;
	(void)epoll_ctl(loop.epoll, EPOLL_CTL_DEL, socket, NULL);
	stream_free(id, stream);
	return socket;
}

int sluice_streams__wake(struct sluice_streams *handle)
{
	uint64_t one = 1;

	return write(handle->waker, &one, sizeof(one)) < 0 && errno != EAGAIN ? -errno : 0;
}
