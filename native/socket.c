/* SPDX-License-Identifier: Apache-2.0 */
/* One socket of the proxy: what is written to it, what comes from it, and how it ends. Its states are drawn in sockets.h. */
#define _GNU_SOURCE
#include "sockets.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * How much is read of one socket at once: much, for a large body goes through in fewer turns, but little where a lot waits for
 * clients that do not take it.
 */
#define READ_BYTES (1024 * 1024)
#define READ_BYTES_LESS (16 * 1024)
#define READ_BYTES_LEAST (4 * 1024)
#define WAITING_MUCH (32u * 1024 * 1024)
#define WAITING_MOST (96u * 1024 * 1024)
/* Kept for a socket that is not connected yet, before its sender is told to wait. */
#define CONNECTING_BYTES (64u * 1024)
/* How long the other side of a closed socket may take nothing of what is left for it. */
#define CLOSING_MS 30000

/* A bit for each state that may follow. */
static const uint8_t followers[] = {
	[SOCKET_FREE] = 1 << SOCKET_CONNECTING | 1 << SOCKET_OPEN,
	[SOCKET_CONNECTING] = 1 << SOCKET_OPEN | 1 << SOCKET_GONE | 1 << SOCKET_FREE,
	[SOCKET_OPEN] = 1 << SOCKET_GONE | 1 << SOCKET_FREE,
	[SOCKET_GONE] = 1 << SOCKET_FREE,
};

void socket_become(struct proxy_socket *socket, enum socket_state next)
{
	assert(followers[socket->state] & 1 << next);
	socket->state = next;
}

void event_add(struct sluice_sockets *sockets, uint32_t id, enum sluice_socket_event kind, uint32_t offset, uint32_t length)
{
	struct sluice_sockets_turn *turn = sockets->memory.turn;

	if (turn->event_count < sockets->memory.event_capacity)
		sockets->memory.events[turn->event_count++] =
			(struct sluice_socket_record){ .id = id, .kind = kind, .offset = offset, .length = length };
}

void socket_reset(int fd)
{
	struct linger now = { .l_onoff = 1 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

void socket_watch(struct sluice_sockets *sockets, uint32_t id)
{
	struct proxy_socket *socket = &sockets->table[id];
	uint32_t wanted = (socket->paused || socket->ended ? 0 : EPOLLIN) |
			  (socket->state == SOCKET_CONNECTING || backlog_length(&socket->backlog) ? EPOLLOUT : 0);
	struct epoll_event event = { .events = wanted, .data.u32 = id };

	if (wanted == socket->watched || socket->state == SOCKET_GONE)
		return;
	socket->watched = wanted;
	(void)epoll_ctl(sockets->epoll, EPOLL_CTL_MOD, socket->fd, &event);
}

static void socket_close(struct sluice_sockets *sockets, uint32_t id)
{
	close(sockets->table[id].fd);
	table_free(sockets, id);
}

/* Nothing more comes of it; it is closed when that is asked for. */
static void socket_lose(struct sluice_sockets *sockets, uint32_t id, int error)
{
	struct proxy_socket *socket = &sockets->table[id];

	backlog_forget(&socket->backlog, &sockets->waiting);
	(void)epoll_ctl(sockets->epoll, EPOLL_CTL_DEL, socket->fd, NULL);
	if (socket->finish == FINISH_CLOSE) {
		socket_close(sockets, id);
		return;
	}
	socket_become(socket, SOCKET_GONE);
	event_add(sockets, id, SLUICE_SOCKET_GONE, 0, (uint32_t)error);
}

/* Everything is written. */
static void socket_finish_now(struct sluice_sockets *sockets, uint32_t id)
{
	struct proxy_socket *socket = &sockets->table[id];

	if (socket->finish == FINISH_CLOSE) {
		socket_close(sockets, id);
		return;
	}
	if (socket->finish == FINISH_END)
		(void)shutdown(socket->fd, SHUT_WR);
	socket->finish = FINISH_NOTHING;
	socket_watch(sockets, id);
}

void socket_finish(struct sluice_sockets *sockets, uint32_t id, enum socket_finish finish)
{
	struct proxy_socket *socket = &sockets->table[id];
	uint32_t left = backlog_length(&socket->backlog);

	/* Nobody looks after it any more: who takes nothing of what is left loses it. */
	if (finish == FINISH_CLOSE && left)
		(void)setsockopt(socket->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &(unsigned){ CLOSING_MS }, sizeof(unsigned));
	socket->finish = finish;
	if (socket->state == SOCKET_GONE || (socket->state == SOCKET_OPEN && !left))
		socket_finish_now(sockets, id);
}

void socket_write(struct sluice_sockets *sockets, uint32_t id, const uint8_t *bytes, uint32_t length, int more)
{
	struct proxy_socket *socket = &sockets->table[id];
	ssize_t sent = 0;
	uint32_t kept;

	if (socket->state == SOCKET_GONE)
		return;
	if (socket->state == SOCKET_OPEN && !backlog_length(&socket->backlog)) {
		sent = send(socket->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));
		if (sent < 0 && errno != EAGAIN && errno != EINTR) {
			socket_lose(sockets, id, errno);
			return;
		}
		if (sent < 0)
			sent = 0;
	}
	if ((uint32_t)sent == length)
		return;
	if (backlog_keep(&socket->backlog, &sockets->waiting, bytes + sent, length - (uint32_t)sent)) {
		socket_lose(sockets, id, ENOBUFS);
		return;
	}
	kept = backlog_length(&socket->backlog);
	if (!socket->blocked && (socket->state == SOCKET_OPEN || kept > CONNECTING_BYTES)) {
		socket->blocked = 1;
		event_add(sockets, id, SLUICE_SOCKET_BLOCKED, 0, kept);
	}
	socket_watch(sockets, id);
}

/* The other side takes more. */
static void socket_flush(struct sluice_sockets *sockets, uint32_t id)
{
	struct proxy_socket *socket = &sockets->table[id];
	int error;

	if (socket->state == SOCKET_CONNECTING) {
		socket_become(socket, SOCKET_OPEN);
		event_add(sockets, id, SLUICE_SOCKET_CONNECTED, 0, 0);
	}
	error = backlog_send(&socket->backlog, &sockets->waiting, socket->fd);
	if (error) {
		socket_lose(sockets, id, -error);
		return;
	}
	if (!backlog_length(&socket->backlog)) {
		backlog_forget(&socket->backlog, &sockets->waiting);
		if (socket->blocked) {
			socket->blocked = 0;
			event_add(sockets, id, SLUICE_SOCKET_DRAINED, 0, 0);
		}
		if (socket->finish != FINISH_NOTHING) {
			socket_finish_now(sockets, id);
			return;
		}
	}
	socket_watch(sockets, id);
}

/* So that no endpoint's share of clients (half of 32,768), each with what was read for it at once, comes to the bound of all. */
static size_t read_most(const struct sluice_sockets *sockets)
{
	return sockets->waiting > WAITING_MOST ? READ_BYTES_LEAST : sockets->waiting > WAITING_MUCH ? READ_BYTES_LESS : READ_BYTES;
}

static void socket_read(struct sluice_sockets *sockets, uint32_t id)
{
	size_t room = sockets->memory.in_capacity - sockets->used, most = read_most(sockets);
	struct proxy_socket *socket = &sockets->table[id];
	ssize_t length;

	if (room < READ_BYTES_LESS)
		return;		/* in the next turn: epoll says so again */
	length = recv(socket->fd, sockets->memory.in + sockets->used, most < room ? most : room, MSG_DONTWAIT);
	if (length > 0) {
		event_add(sockets, id, SLUICE_SOCKET_DATA, sockets->used, (uint32_t)length);
		sockets->used += ((uint32_t)length + 7) & ~7u;
	} else if (!length) {
		socket->ended = 1;
		event_add(sockets, id, SLUICE_SOCKET_ENDED, 0, 0);
		socket_watch(sockets, id);
	} else if (errno != EAGAIN && errno != EINTR) {
		socket_lose(sockets, id, errno);
	}
}

/* Whether something may still be done for it: what was done last may have ended it. */
static int socket_lives(const struct proxy_socket *socket)
{
	return socket->state == SOCKET_CONNECTING || socket->state == SOCKET_OPEN;
}

static void socket_fail(struct sluice_sockets *sockets, uint32_t id, uint32_t events)
{
	struct proxy_socket *socket = &sockets->table[id];
	socklen_t length = sizeof(int);
	int error = 0;

	(void)getsockopt(socket->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	/* Bytes that came before the error are worth reading. */
	if (events & EPOLLIN)
		socket_read(sockets, id);
	if (socket_lives(socket))
		socket_lose(sockets, id, error ? error : EIO);
}

void socket_ready(struct sluice_sockets *sockets, uint32_t id, uint32_t events)
{
	struct proxy_socket *socket = table_find(sockets, id);

	if (!socket || !socket_lives(socket))
		return;
	if (events & EPOLLERR) {
		socket_fail(sockets, id, events);
		return;
	}
	if (events & EPOLLOUT)
		socket_flush(sockets, id);
	if (!socket_lives(socket))
		return;
	if (events & EPOLLIN)
		socket_read(sockets, id);
	else if (events & EPOLLHUP)
		socket_lose(sockets, id, 0);
}
