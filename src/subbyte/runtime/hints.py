"""Text that headers of model files often hold: the packer refers to it instead of writing it.

It belongs to version 2 of the file and must never change: a file packed with other hints cannot be unpacked. The
packer finds what stands near the end cheapest, so the commonest stand there.
"""

from __future__ import annotations

from typing import Final

HINTS: Final = (
    b'"int_log_softmax""int_softmax""int_lut""int_mul""int_rescale""resize_nearest""transpose""slice""argmax""identity"'
    b'"layout":"channels_first""table":[-1,0,1]"packing":"radix"m15""shift""bits"preprocess":{"layout":'
    b'"mean":["std":["scale":"color":"resize":"true,false,null,"count_include_pad":true"ceil_mode":true"keepdims":true'
    b'"reshape","scale":"0x1.","attributes":{"shape":[null,"concat","attributes":{"axis":3}"max_pool","attributes":'
    b'{"kernel":[2,2],"padding":[0,0,0,0],"stride":[2,2]},"int_pad","attributes":{"after":[0,1,1,0],"before":[0,0,0,0],'
    b'"fill":"int_mean","attributes":{"axes":[1,2],"m":1073741824,"n":"int_avg_pool","attributes":{"kernel":[8,8]},'
    b'"int_add","attributes":{"lo":0,"n":31},"output":"module":"as":"uint8","axis":1,"moved":[0,-1],"times":"0x1.99999ap-4"'
    b'"dilation":[2,2]"groups":64,"hi":127,"int16""int32""uint4""ternary":{"consecutive":[-1,1]},'
    b'"uint8":{"consecutive":[0,255]},"int8":{"consecutive":[-128,127]},"int4":{"consecutive":[-8,7]},'
    b'"int3":{"consecutive":[-4,3]},"int2":{"consecutive":[-2,1]}}"metadata":{"arithmetic":"m31","recipe":"w4a8",'
    b'"samples":256,"seed":0,"subbyte":"0.1.0"}}{"codes":"formats":{"graph":{"inputs":[{"format":"uint8","name":"input",'
    b'"scale":"0x1.010102p-8","shape":[null,"zero_point":128}],"name":"main_graph","nodes":['
    b'{"attributes":{"padding":[1,1,1,1],"stride":[2,2]},"format":"int16","inputs":["","op":"int_linear","scale":"0x1.'
    b'{"format":"int4","scale":[25,9"shape":[64,3,3,64],"zero":[1,-1]},{"bits":[12,-1"shape":[64]},{"moved":["ratio":"m31"'
    b'},{"ratio":"m31"}],"name":"op":"int_conv","outputs":["scale":"0x1."zero_point":128},{"attributes":{"padding":[1,1,1,1]'
    b'},"format":"uint8","inputs":["'
)
