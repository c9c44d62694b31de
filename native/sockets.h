/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files that serve the proxy's sockets: sockets.c, socket-table.c, socket.c and backlog.c. */
#ifndef SLUICE_SOCKETS_H
#define SLUICE_SOCKETS_H

#include "internal.h"

/* backlog.c: bytes that a socket does not take yet. */

struct backlog {
	uint8_t *bytes;
	uint32_t from, to, room;
};

/* total: bytes of all sockets that have one bound together. */
uint32_t backlog_length(const struct backlog *backlog);
/* Keeps more; returns 0, -ENOBUFS where all have too much, or -ENOMEM. */
int backlog_keep(struct backlog *backlog, uint32_t *total, const uint8_t *bytes, uint32_t length);
/* Sends what is taken of it; returns 0 or -errno. */
int backlog_send(struct backlog *backlog, uint32_t *total, int fd);
void backlog_forget(struct backlog *backlog, uint32_t *total);

/*
 * The life of a socket; socket_become() goes by the arrows that there are, and by no others.
 *
 *	FREE -> CONNECTING	it was begun here
 *	FREE -> OPEN		a listener has accepted it
 *	CONNECTING -> OPEN	the other side has accepted it
 *	CONNECTING -> GONE	it failed, and that is told: only its close is to come
 *	OPEN -> GONE		it failed, or both sides have said that nothing follows
 *	CONNECTING -> FREE	it was closed, reset or given away
 *	OPEN -> FREE
 *	GONE -> FREE
 */
enum socket_state {
	SOCKET_FREE,
	SOCKET_CONNECTING,
	SOCKET_OPEN,
	SOCKET_GONE,
};

/* Asked for, and done when everything is written. */
enum socket_finish {
	FINISH_NOTHING,
	FINISH_END,
	FINISH_CLOSE,
};

/* Beside its state: which half of it is at what. */
struct proxy_socket {
	int fd;
	enum socket_state state;
	enum socket_finish finish;
	uint32_t watched;	/* epoll events that are asked for */
	uint8_t paused;		/* nothing is read */
	uint8_t ended;		/* the other side says no more */
	uint8_t blocked;	/* it was told that not everything could be written */
	struct backlog backlog;	/* what could not be written yet */
	uint32_t next_free;
};

/* No number of a socket. */
#define NO_SOCKET 0xffffffff

struct sluice_sockets {
	struct sluice_proxy *proxy;
	struct sluice_sockets_memory memory;
	struct proxy_socket *table;
	uint32_t count, room;
	uint32_t free;		/* numbers that can be given out */
	uint32_t freed;		/* since the last turn began: events of that one may still name these */
	int epoll, waker, listeners[PROXY_LISTENER_MAX];
	uint32_t used;		/* of the memory `in`, in this turn */
	uint32_t waiting;	/* bytes in all backlogs */
};

/* socket-table.c */

/* Returns the number of a socket from now on, or -errno; fd is closed then. */
int table_add(struct sluice_sockets *sockets, int fd, enum socket_state state);
/* The number is free; what fd is of is the caller's. */
void table_free(struct sluice_sockets *sockets, uint32_t id);
/* Numbers that became free between two turns can be given out. */
void table_reuse(struct sluice_sockets *sockets);
/* Returns NULL where the number is of none. */
struct proxy_socket *table_find(struct sluice_sockets *sockets, uint32_t id);

/* socket.c */

void event_add(struct sluice_sockets *sockets, uint32_t id, enum sluice_socket_event kind, uint32_t offset, uint32_t length);
void socket_become(struct proxy_socket *socket, enum socket_state next);
/* Has epoll tell what can be done for it now. */
void socket_watch(struct sluice_sockets *sockets, uint32_t id);
/* Breaks off at once what fd is of. */
void socket_reset(int fd);
/* more: more follows at once. */
void socket_write(struct sluice_sockets *sockets, uint32_t id, const uint8_t *bytes, uint32_t length, int more);
/* Ends or closes it, when everything is written. */
void socket_finish(struct sluice_sockets *sockets, uint32_t id, enum socket_finish finish);
/* Does what epoll says can be done. */
void socket_ready(struct sluice_sockets *sockets, uint32_t id, uint32_t events);

#endif
