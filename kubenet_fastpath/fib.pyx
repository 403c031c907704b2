from libc.stdint cimport uint32_t
cdef uint32_t fib_lookup(const fib_t* f, uint32_t dst) noexcept nogil:
    cdef uint32_t i, best=0xFFFFFFFF, m=0
    for i in range(f.n):
        if (f.net[i]^dst)&f.mask[i]==0 and (best==<uint32_t>0xFFFFFFFF or f.mask[i]>=m):
            best=f.hop[i]; m=f.mask[i]
    return best
cdef class RouteTable:
    def __cinit__(self):
        self.fib=&self.store
    def __setitem__(self, k, hop):
        n,l=k
        i=self.store.n
        self.store.net[i]=n; self.store.mask[i]=(-1<<(32-l))&0xFFFFFFFF; self.store.hop[i]=hop; self.store.n+=1
