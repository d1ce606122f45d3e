/* Runs the blocks of a kernel on several threads.

The threads are the system's, and never touch Python.  So they do not need the GIL, for which competing costs more than the work they
do; no signal handler, fork or interpreter shutdown can interrupt them in the middle of anything; and an exception from a signal handler is
raised in the caller, here, once they are done.  They are started when first needed, and stay.

A thread that has done its part polls for more work for a while before it goes to sleep.  On a virtual machine waking a thread costs the
caller 12 us, and it runs 20 to 40 us later; noticing work while polling takes a fraction of one.  A polling thread yields the CPU
to anyone else who needs it.

A call gives its job, which is on its stack, to idle threads, and processes pieces of it like them.  When no pieces are left, it takes the
job back from threads that have not begun, so that it never waits for one that is late.  Which thread processes which blocks is
left to chance: results must not depend on it. */
#ifndef FASTLOSS_POOL_H
#define FASTLOSS_POOL_H

#include <Python.h>
#include <limits.h>

typedef void (*Blocks)(void *task, Py_ssize_t first, Py_ssize_t last);

#if defined(_WIN32)

/* No threads here: the caller divides the work among its own. */
enum { POOLED = 0 };

static void grant(int n_threads, long long work, int interruptible)
{
    (void)n_threads, (void)work, (void)interruptible;
}

static int divide(Blocks blocks, void *task, Py_ssize_t first, Py_ssize_t last)
{
    Py_BEGIN_ALLOW_THREADS
    blocks(task, first, last);
    Py_END_ALLOW_THREADS
    return 0;
}

static int pool_over(void)
{
    return 0;
}

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#define POOL_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define POOL_PAUSE() __asm__ volatile("yield")
#else
#define POOL_PAUSE() ((void)0)
#endif

#define POOL_GET(place) __atomic_load_n(&(place), __ATOMIC_SEQ_CST)
#define POOL_SET(place, value) __atomic_store_n(&(place), (value), __ATOMIC_SEQ_CST)

enum { POOLED = 1 };
enum { POOL_MOST = 1023 };       /* workers */
enum { POOL_STACK = 1 << 20 };   /* bytes: kernels have their scratch there */
enum { POOL_PATIENCE = 4 };      /* how often the work for which a thread is woken doubles while that is in vain */
enum { POOL_RETRY = 16 };        /* one of how many calls tries all the same */
enum { POOL_SLEEPS = 1 << 30 };  /* beside a number of workers: the caller is to be woken */
enum { POOL_HALF = 4 * sizeof(uintptr_t) }; /* bits of either of two numbers that are changed together */
#define POOL_LOWER (((uintptr_t)1 << POOL_HALF) - 1)

/* Nanoseconds. */
enum {
    POOL_SHARE = 8000,         /* work for each thread, at least */
    POOL_ASLEEP_FROM = 120000, /* work for which one that sleeps is woken */
    POOL_PIECE = 4000,         /* work in a piece, at least */
    POOL_FIRST = 2000000,      /* work in the first piece of a long call: what it takes tells how long pieces may be */
    POOL_LONG = 20000000,      /* time that a piece should take, at most */
    POOL_CHECK = 50000000,     /* time after which signal handlers get to run */
    POOL_LOOK = 70000          /* time to look out before going to sleep */
};

/* What the next kernel may have that this thread calls; 0 is nothing. */
static __thread struct {
    int n_threads;
    long long work; /* ns */
    int interruptible;
} pool_granted;

typedef struct {
    Blocks blocks;
    void *task;
    Py_ssize_t first, last;  /* its blocks */
    Py_ssize_t unit, end;    /* how many blocks count as one, and how many there are then */
    uintptr_t left;          /* those that no thread has taken yet: the first, and in the lower half the end */
    Py_ssize_t least, limit; /* units in a piece; how many there may be is found out as they are computed */
    int n_threads;
    int stopped;
    int done; /* workers that began and are done, and POOL_SLEEPS */
} SharedJob;

/* The job that this thread is at, if any. */
static __thread SharedJob *pool_job;

/* Of a caller whose signal handlers are to run meanwhile. */
typedef struct {
    SharedJob *job;
    PyThreadState *state; /* the GIL is released */
    long long checked;    /* when handlers last ran */
    int n_called, generation;
    int failed; /* whether one raised */
} Caller;

static __thread Caller *pool_caller;

/* What a worker is doing; any other state is the job it was given and has not begun.  A caller takes it, to hand it one. */
enum { RESTING, ASLEEP, TAKEN, WORKING, N_STATES };

typedef struct {
    uintptr_t state;
    int looks;    /* whether there is a CPU on which it may look out */
    int from_end; /* whether it takes a job's last blocks first */
    pthread_mutex_t mutex;
    pthread_cond_t woken;
} Worker;

static struct {
    int n_workers;
    int generation; /* is another in a forked child */
    int vain;       /* times in a row that workers were woken for nothing, up to POOL_PATIENCE */
    int tries;
    long long last; /* when the last call ended that could have done with a worker */
    pthread_mutex_t growing, joining;
    pthread_cond_t joined;
    Worker *workers[POOL_MOST];
} pool = {0, 0, 0, 0, 0, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, {NULL}};

static long long pool_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Whether the state was `from`, and has become `to`. */
static int pool_turn(Worker *worker, uintptr_t from, uintptr_t to)
{
    return __atomic_compare_exchange_n(&worker->state, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* --- a job ------------------------------------------------------------------------------------------------------------- */

/* Some threads take blocks from one end and the others from the other, so that in a next call with the same arrays they find most of
their part in caches of their own. */
static int pool_take(SharedJob *job, int from_end, Py_ssize_t limit, Py_ssize_t *first, Py_ssize_t *last)
{
    uintptr_t left = POOL_GET(job->left), rest;
    do {
        const Py_ssize_t start = (Py_ssize_t)(left >> POOL_HALF), end = (Py_ssize_t)(left & POOL_LOWER);
        Py_ssize_t size;
        if (start >= end || POOL_GET(job->stopped))
            return 0;
        /* large pieces first, so that few will do, small ones last, so that all threads end together */
        size = (end - start) / (2 * job->n_threads);
        size = size < job->least ? job->least : size;
        size = size > limit ? limit : size;
        size = size < end - start ? size : end - start;
        *first = from_end ? end - size : start;
        *last = *first + size;
        rest = (uintptr_t)(from_end ? start : *last) << POOL_HALF | (uintptr_t)(from_end ? *first : end);
    } while (!__atomic_compare_exchange_n(&job->left, &left, rest, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return 1;
}

/* Compute a piece, and return how many blocks the next one may have. */
static Py_ssize_t pool_compute(SharedJob *job, Py_ssize_t limit, Py_ssize_t first, Py_ssize_t last)
{
    const long long start = pool_clock();
    const Py_ssize_t until = last < job->end ? job->first + last * job->unit : job->last;
    double took, fitting;
    job->blocks(job->task, job->first + first * job->unit, until);
    took = (double)(pool_clock() - start);
    fitting = (double)(last - first) * POOL_LONG / (took > 1.0 ? took : 1.0);
    if (fitting > 2.0 * (double)limit)
        fitting = 2.0 * (double)limit;
    return fitting < 1.0 ? 1 : fitting < (double)job->end ? (Py_ssize_t)fitting : job->end;
}

/* --- workers ----------------------------------------------------------------------------------------------------------- */

/* Return when there may be a job. */
static void pool_rest(Worker *worker)
{
    const long long start = pool_clock();
    while (worker->looks && pool_clock() - start < POOL_LOOK) {
        for (int i = 0; i < 8; i++) {
            if (POOL_GET(worker->state) >= N_STATES)
                return;
            POOL_PAUSE();
        }
        sched_yield();
    }
    if (!pool_turn(worker, RESTING, ASLEEP))
        return;
    pthread_mutex_lock(&worker->mutex);
    while (POOL_GET(worker->state) == ASLEEP)
        pthread_cond_wait(&worker->woken, &worker->mutex);
    pthread_mutex_unlock(&worker->mutex);
}

static void *pool_work(void *self)
{
    Worker *worker = self;
    for (;;) {
        const uintptr_t state = POOL_GET(worker->state);
        SharedJob *job = (SharedJob *)state;
        Py_ssize_t limit, first, last;
        if (state < N_STATES || !pool_turn(worker, state, WORKING)) {
            pool_rest(worker);
            continue;
        }
        limit = job->limit;
        pool_job = job;
        while (pool_take(job, worker->from_end, limit, &first, &last))
            limit = pool_compute(job, limit, first, last);
        pool_job = NULL;
        POOL_SET(worker->state, RESTING);
        /* after this the job may no longer exist */
        if (__atomic_fetch_add(&job->done, 1, __ATOMIC_SEQ_CST) & POOL_SLEEPS) {
            pthread_mutex_lock(&pool.joining);
            pthread_cond_broadcast(&pool.joined);
            pthread_mutex_unlock(&pool.joining);
        }
    }
    return NULL;
}

static int pool_cpus(void)
{
#if defined(CPU_COUNT)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* In a forked child neither the workers exist, nor threads that held the locks. */
static void pool_forget(void)
{
    pool.n_workers = pool.vain = 0;
    pool.generation++;
    pthread_mutex_init(&pool.growing, NULL);
    pthread_mutex_init(&pool.joining, NULL);
    pthread_cond_init(&pool.joined, NULL);
}

/* A new worker that starts with the job; NULL if no thread can be created. */
static Worker *pool_start(SharedJob *job)
{
    static int registered = 0;
    Worker *worker = calloc(1, sizeof *worker);
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    int failed;
    if (worker == NULL)
        return NULL;
    if (!registered)
        registered = pthread_atfork(NULL, NULL, pool_forget) == 0;
    worker->state = (uintptr_t)job;
    worker->looks = pool.n_workers + 1 < pool_cpus();
    worker->from_end = pool.n_workers % 2 == 0;
    pthread_mutex_init(&worker->mutex, NULL);
    pthread_cond_init(&worker->woken, NULL);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, POOL_STACK);
    sigfillset(&all); /* signals are left to Python's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = !registered || pthread_create(&thread, &attributes, pool_work, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (failed) {
        free(worker);
        return NULL;
    }
    pool.workers[pool.n_workers] = worker;
    POOL_SET(pool.n_workers, pool.n_workers + 1);
    return worker;
}

static void pool_hand(Worker *worker, SharedJob *job, int asleep)
{
    POOL_SET(worker->state, (uintptr_t)job);
    if (!asleep)
        return;
    pthread_mutex_lock(&worker->mutex);
    pthread_cond_signal(&worker->woken);
    pthread_mutex_unlock(&worker->mutex);
}

/* Give the job to at most `wanted` workers, and return how many: those that are awake, and as many others as are worth waking. */
static int pool_call(SharedJob *job, int wanted, long long work, Worker **called)
{
    const int n_workers = POOL_GET(pool.n_workers), vain = POOL_GET(pool.vain);
    long long wake = (work / POOL_ASLEEP_FROM) >> vain;
    int n = 0, i;
    for (i = 0; i < n_workers && n < wanted; i++)
        if (pool_turn(pool.workers[i], RESTING, TAKEN)) {
            pool_hand(pool.workers[i], job, 0);
            called[n++] = pool.workers[i];
        }
    /* For calls in a loop: a worker that is woken now is awake for the next call.  And once in a while, to see whether waking is still in vain. */
    if (!wake && (work >= POOL_ASLEEP_FROM || pool_clock() - POOL_GET(pool.last) < POOL_LOOK * 2 / 3))
        wake = !vain || __atomic_add_fetch(&pool.tries, 1, __ATOMIC_SEQ_CST) % POOL_RETRY == 0;
    for (i = 0; i < n_workers && n < wanted && wake > 0; i++)
        if (pool_turn(pool.workers[i], ASLEEP, TAKEN)) {
            pool_hand(pool.workers[i], job, 1);
            called[n++] = pool.workers[i];
            wake--;
        }
    if (n < wanted && wake > 0 && n_workers < wanted && pthread_mutex_trylock(&pool.growing) == 0) {
        while (n < wanted && wake-- > 0 && pool.n_workers < wanted) {
            Worker *worker = pool_start(job);
            if (worker == NULL)
                break;
            called[n++] = worker;
        }
        pthread_mutex_unlock(&pool.growing);
    }
    return n;
}

/* Take the job back from workers that have not begun, wait for the others, and return how many these are. */
static int pool_join(SharedJob *job, int n, Worker **called)
{
    long long start;
    int begun = 0, i;
    for (i = 0; i < n; i++)
        begun += !pool_turn(called[i], (uintptr_t)job, RESTING);
    start = pool_clock();
    while (POOL_GET(job->done) < begun && pool_clock() - start < POOL_LOOK) {
        for (i = 0; i < 8 && POOL_GET(job->done) < begun; i++)
            POOL_PAUSE();
        sched_yield();
    }
    if (POOL_GET(job->done) < begun && __atomic_fetch_or(&job->done, POOL_SLEEPS, __ATOMIC_SEQ_CST) < begun) {
        pthread_mutex_lock(&pool.joining);
        while ((POOL_GET(job->done) & ~POOL_SLEEPS) < begun)
            pthread_cond_wait(&pool.joined, &pool.joining);
        pthread_mutex_unlock(&pool.joining);
    }
    return begun;
}

/* --- a call ------------------------------------------------------------------------------------------------------------ */

/* Let the next kernel that this thread calls use up to n_threads for about `work` ns of work.

interruptible : whether it is the main thread, which runs the signal handlers.  No other may ask for the GIL while workers have its
job: when the interpreter shuts down it would not come back, and its stack would be gone. */
static void grant(int n_threads, long long work, int interruptible)
{
    pool_granted.n_threads = n_threads;
    pool_granted.work = work;
    pool_granted.interruptible = interruptible;
}

/* Run signal handlers; -1 if one raised, or forked and this is the child, which has no workers. */
static int pool_check(int n_called, int generation)
{
    if (PyErr_CheckSignals() < 0)
        return -1;
    if (n_called && generation != pool.generation) {
        PyErr_SetString(
            PyExc_RuntimeError, "forked in the middle of a call, whose other threads are missing in the child process");
        return -1;
    }
    return 0;
}

/* The same if it is time to; the caller's job is over where one raised. */
static void pool_look(Caller *caller)
{
    if (caller->failed || pool_clock() - caller->checked <= POOL_CHECK)
        return;
    pool_job = NULL; /* a handler's own calls have nothing to do with this one */
    pool_caller = NULL;
    PyEval_RestoreThread(caller->state);
    caller->failed = pool_check(caller->n_called, caller->generation);
    caller->state = PyEval_SaveThread();
    pool_caller = caller;
    pool_job = caller->job;
    caller->checked = pool_clock();
    if (caller->failed)
        POOL_SET(caller->job->stopped, 1);
}

/* Whether what this thread computes is no longer wanted: blocks that may take long ask from time to time, and return. */
static int pool_over(void)
{
    if (pool_caller != NULL)
        pool_look(pool_caller);
    return pool_job != NULL && POOL_GET(pool_job->stopped);
}

/* blocks(task, first, last) over all of [first, last), on as many threads as were granted and pay.  Called with the GIL, which is
released meanwhile; -1 if a signal handler raised. */
static int divide(Blocks blocks, void *task, Py_ssize_t first, Py_ssize_t last)
{
    const Py_ssize_t n = last - first;
    const long long work = pool_granted.work;
    const int interruptible = pool_granted.interruptible;
    int n_threads = pool_granted.n_threads;
    grant(0, 0, 0);
    if (n_threads > n)
        n_threads = (int)n;
    if (n_threads > work / POOL_SHARE)
        n_threads = (int)(work / POOL_SHARE);
    if (n_threads > POOL_MOST + 1)
        n_threads = POOL_MOST + 1;
    if (n_threads < 2 && (work < POOL_FIRST || !interruptible)) {
        Py_BEGIN_ALLOW_THREADS
        blocks(task, first, last);
        Py_END_ALLOW_THREADS
        return 0;
    }

    SharedJob job = {blocks, task, first, last, 0, 0, 0, 0, 0, n_threads < 1 ? 1 : n_threads, 0, 0};
    Worker *few[15], **called = few;
    Caller caller = {&job, NULL, 0, 0, pool.generation, 0};
    int n_called = 0;
    Py_ssize_t limit, from, to;
    job.unit = n / (Py_ssize_t)POOL_LOWER + 1;
    job.end = (n + job.unit - 1) / job.unit;
    job.left = (uintptr_t)job.end;
    job.least = (Py_ssize_t)((double)job.end * POOL_PIECE / (double)work);
    job.limit = (Py_ssize_t)((double)job.end * POOL_FIRST / (double)work);
    job.least = job.least < 1 ? 1 : job.least;
    job.limit = limit = job.limit < 1 ? 1 : job.limit;
    if (n_threads > 16 && (called = malloc(n_threads * sizeof *called)) == NULL) {
        called = few;
        n_threads = 16;
    }
    caller.state = PyEval_SaveThread();
    if (n_threads > 1)
        n_called = pool_call(&job, n_threads - 1, work, called);
    caller.n_called = n_called;
    caller.checked = pool_clock();
    pool_job = &job;
    pool_caller = interruptible ? &caller : NULL;
    while (pool_take(&job, 0, limit, &from, &to)) {
        limit = pool_compute(&job, limit, from, to);
        if (interruptible)
            pool_look(&caller);
    }
    pool_job = NULL;
    pool_caller = NULL;
    if (n_threads > 1) {
        if (n_called && caller.generation == pool.generation) {
            const int vain = POOL_GET(pool.vain);
            if (pool_join(&job, n_called, called))
                POOL_SET(pool.vain, 0);
            else if (vain < POOL_PATIENCE)
                POOL_SET(pool.vain, vain + 1);
        }
        POOL_SET(pool.last, pool_clock());
    }
    PyEval_RestoreThread(caller.state);
    if (called != few)
        free(called);
    return caller.failed;
}

#endif
#endif
