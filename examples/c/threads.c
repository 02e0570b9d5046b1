/* Calls the model of ffn.c on several threads: a pool of pthreads that generated code asks to run tasks.
 * Prints the outputs, which have the same bits for any number of threads. README.md says how to build it.
 *
 * The pool is as plain as can be: workers sleep on a condition variable, so a job costs some microseconds
 * to begin. One that spins for a while before it sleeps serves small models better. */

#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "ffn.h"

#define MAX_WORKERS 64

/* One job at a time: `count` tasks, of which `next` is the first that nobody has taken. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t brought, ended;
    void (*task)(void *data, uint64_t k);
    void *data;
    uint64_t next, count, running;
    int stops;
    pthread_t workers[MAX_WORKERS];
    int worker_count;
    uint64_t jobs;
} pool;

/* Takes tasks until none are left. The lock is held, but for the time of a task. */
static void work(pool *of) {
    while (of->next < of->count) {
        uint64_t k = of->next++;
        of->running++;
        pthread_mutex_unlock(&of->lock);
        of->task(of->data, k);
        pthread_mutex_lock(&of->lock);
        of->running--;
    }
    if (of->running == 0) pthread_cond_signal(&of->ended);
}

static void *worker(void *argument) {
    pool *of = argument;
    pthread_mutex_lock(&of->lock);
    while (!of->stops) {
        work(of);
        if (!of->stops) pthread_cond_wait(&of->brought, &of->lock);
    }
    pthread_mutex_unlock(&of->lock);
    return NULL;
}

/* What generated code calls: mdlc_exec.run. */
static void run(void *self, void (*task)(void *data, uint64_t k), void *data, uint64_t n) {
    pool *of = self;
    pthread_mutex_lock(&of->lock);
    of->task = task;
    of->data = data;
    of->next = 0;
    of->count = n;
    of->jobs++;
    pthread_cond_broadcast(&of->brought);
    work(of);
    while (of->running > 0) pthread_cond_wait(&of->ended, &of->lock);
    pthread_mutex_unlock(&of->lock);
}

static void start(pool *of, int workers) {
    pthread_mutex_init(&of->lock, NULL);
    pthread_cond_init(&of->brought, NULL);
    pthread_cond_init(&of->ended, NULL);
    while (of->worker_count < workers && of->worker_count < MAX_WORKERS) {
        if (pthread_create(&of->workers[of->worker_count], NULL, worker, of)) break;
        of->worker_count++;
    }
}

static void stop(pool *of) {
    pthread_mutex_lock(&of->lock);
    of->stops = 1;
    pthread_cond_broadcast(&of->brought);
    pthread_mutex_unlock(&of->lock);
    for (int k = 0; k < of->worker_count; k++) pthread_join(of->workers[k], NULL);
}

static void *aligned(int64_t bytes) {
    void *memory = aligned_alloc(64, ((size_t)bytes + 63) / 64 * 64 + 64);
    if (!memory) exit(1);
    return memory;
}

/* A tensor of f32 with made-up elements. */
static mdlc_tensor tensor(int32_t rank, int64_t a, int64_t b, int64_t c) {
    mdlc_tensor made = { .dtype = MDLC_F32, .rank = rank, .shape = { a, b, c } };
    int64_t count = a * (rank > 1 ? b : 1) * (rank > 2 ? c : 1);
    made.bytes = 4 * count;
    float *elements = made.data = aligned(made.bytes);
    for (int64_t k = 0; k < count; k++) elements[k] = (float)(k % 7 - 3) * 0.1f;
    return made;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    static pool of;
    start(&of, threads - 1);
    mdlc_exec exec = { .self = &of, .workers = (uint64_t)of.worker_count + 1, .run = run };

    mdlc_context context;
    int32_t status = ffn_init(&context);
    context.exec = &exec;
    const int64_t rows = 256, width = 64, hidden = 256;
    int64_t dims[ffn_DIMS] = { 1, rows }, sizes[ffn_SIZES];
    if (!status) status = ffn_sizes(dims, sizes);
    if (status) return status;
    void *blob = aligned(sizes[0]), *scratch = aligned(sizes[1]);
    /* The order of the header. */
    mdlc_tensor weights[ffn_WEIGHTS] = {
        tensor(2, hidden, width, 0), tensor(1, hidden, 0, 0), tensor(2, width, hidden, 0), tensor(1, width, 0, 0),
    };
    mdlc_tensor input = tensor(3, 1, rows, width), output = tensor(3, 1, rows, width);
    status = ffn_pack(&context, weights, blob, dims, scratch);
    if (!status) status = ffn_forward(&context, blob, &input, &output, dims, scratch);
    if (status) return status;
    const float *y = output.data;
    for (int64_t k = 0; k < rows * width; k++) printf("%.9g\n", (double)y[k]);
    fprintf(stderr, "%" PRIu64 " jobs on %" PRIu64 " threads\n", of.jobs, exec.workers);
    stop(&of);
    return 0;
}
