// A server whose threads go on with other tasks while one waits, as runtimes with tasks of their own do: each request asks
// another server three times; /late... when it is answered. No thread waits for a socket. `alone`: one task more asks all the
// time, for nobody.
//
//   tasks PORT ASKED [NAME OF ITS THREADS [alone]]
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 3, CALLS = 3, TASKS = 256 };

struct task {
	int client, asked, calls; // sockets, and how many calls were answered
	char path[64];
};

static struct task *waiting[TASKS]; // a ring
static unsigned begin, end;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sockaddr_in asked = {.sin_family = AF_INET};

static void put(struct task *task)
{
	pthread_mutex_lock(&lock);
	waiting[end++ % TASKS] = task;
	pthread_mutex_unlock(&lock);
}

static struct task *take(void)
{
	pthread_mutex_lock(&lock);
	struct task *task = begin == end ? NULL : waiting[begin++ % TASKS];
	pthread_mutex_unlock(&lock);
	return task;
}

static void ask(struct task *task)
{
	char text[160];

	task->asked = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	connect(task->asked, (struct sockaddr *)&asked, sizeof(asked));
	int size = snprintf(text, sizeof(text), "GET /asked%s/%d HTTP/1.0\r\n\r\n", task->path, task->calls);
	while (write(task->asked, text, size) != size)
		;
}

static int is_late(struct task *task)
{
	return !strncmp(task->path, "/late", 5);
}

static void answer(struct task *task)
{
	dprintf(task->client, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
}

// Until it has to wait. Returns whether there is more to come.
static int go_on(struct task *task)
{
	char text[4096];

	for (;;) {
		ssize_t size = recv(task->asked < 0 ? task->client : task->asked, text, sizeof(text) - 1, 0);
		if (size < 0 && errno == EAGAIN)
			return 1;
		if (task->asked < 0) { // a request, in one piece
			if (size <= 0)
				return 0;
			text[size] = 0;
			sscanf(text, "GET %63s", task->path);
			task->calls = 0;
			if (is_late(task))
				answer(task);
			ask(task);
		} else if (size <= 0) { // the end of an answer
			close(task->asked);
			task->asked = -1;
			if (++task->calls < CALLS || task->client < 0)
				ask(task);
			else if (!is_late(task))
				answer(task);
		}
	}
}

static void *work(void *name)
{
	if (name)
		pthread_setname_np(pthread_self(), name);
	for (;;) {
		struct task *task = take();
		if (!task) {
			usleep(200);
		} else if (go_on(task)) {
			put(task);
			usleep(20); // or nobody else gets to run
		} else {
			close(task->client);
			free(task);
		}
	}
	return NULL;
}

int main(int count, char **words)
{
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

	asked.sin_port = htons(atoi(words[2]));
	own.sin_addr.s_addr = asked.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&own, sizeof(own)) || listen(listener, 128))
		return 1;
	puts("up");
	fflush(stdout);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&(pthread_t){0}, NULL, work, count > 3 ? words[3] : NULL);
	if (count > 4) {
		struct task *alone = calloc(1, sizeof(*alone));
		alone->client = -1;
		strcpy(alone->path, "/alone");
		ask(alone);
		put(alone);
	}
	for (;;) {
		struct task *task = calloc(1, sizeof(*task));
		task->client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
		task->asked = -1;
		put(task);
	}
}
