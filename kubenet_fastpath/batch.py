import numpy as np
class PacketBatch:
    def __init__(self, data, offset, length, wire_length=None, port=0, time=0):
        self.data=data; n=len(offset)
        self.offset=np.ascontiguousarray(offset,np.int64); self.length=np.ascontiguousarray(length,np.uint32)
        self.wire_length=self.length if wire_length is None else np.ascontiguousarray(wire_length,np.uint32)
        self.port=np.ascontiguousarray(np.broadcast_to(np.asarray(port,np.uint16),n)); self.time=np.ascontiguousarray(np.broadcast_to(np.asarray(time,np.int64),n))
    def __len__(self): return len(self.offset)
    @classmethod
    def from_frames(cls, frames, port=0, time=0):
        d=np.frombuffer(bytearray(b''.join(frames)),np.uint8) if frames else np.empty(0,np.uint8)
        l=np.array([len(f) for f in frames],np.uint32)
        o=np.concatenate(([0],np.cumsum(l)[:-1])) if frames else np.empty(0)
        if hasattr(port,'__index__'): port=port.__index__()
        return cls(d,o,l,None,port,time)
    def frames(self): return [self.data[o:o+l].tobytes() for o,l in zip(self.offset.tolist(),self.length.tolist())]
    def copy(self): return PacketBatch.from_frames(self.frames(),self.port,self.time)
