"""The UIDs that are asked for, as PS3.6 table A-1 lists them: pydicom has them too, but takes 0.2 s of CPU to load.

A run over plain slices never loads it. A test compares these with pydicom's, by name.
"""

from __future__ import annotations

# SOP classes
MediaStorageDirectoryStorage = "1.2.840.10008.1.3.10"
CTImageStorage = "1.2.840.10008.5.1.4.1.1.2"
EnhancedCTImageStorage = "1.2.840.10008.5.1.4.1.1.2.1"
LegacyConvertedEnhancedCTImageStorage = "1.2.840.10008.5.1.4.1.1.2.2"

# Transfer syntaxes
ImplicitVRLittleEndian = "1.2.840.10008.1.2"
ExplicitVRLittleEndian = "1.2.840.10008.1.2.1"
DeflatedExplicitVRLittleEndian = "1.2.840.10008.1.2.1.99"
ExplicitVRBigEndian = "1.2.840.10008.1.2.2"
RLELossless = "1.2.840.10008.1.2.5"
JPEGBaseline8Bit = "1.2.840.10008.1.2.4.50"
JPEGExtended12Bit = "1.2.840.10008.1.2.4.51"
JPEGLossless = "1.2.840.10008.1.2.4.57"
JPEGLosslessSV1 = "1.2.840.10008.1.2.4.70"
JPEGLSLossless = "1.2.840.10008.1.2.4.80"
JPEGLSNearLossless = "1.2.840.10008.1.2.4.81"
JPEG2000Lossless = "1.2.840.10008.1.2.4.90"
JPEG2000 = "1.2.840.10008.1.2.4.91"
JPEG2000MCLossless = "1.2.840.10008.1.2.4.92"
JPEG2000MC = "1.2.840.10008.1.2.4.93"
HTJ2KLossless = "1.2.840.10008.1.2.4.201"
HTJ2KLosslessRPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"

RLETransferSyntaxes = (RLELossless,)
JPEGTransferSyntaxes = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
JPEGLSTransferSyntaxes = (JPEGLSLossless, JPEGLSNearLossless)
JPEG2000TransferSyntaxes = (
    JPEG2000Lossless, JPEG2000, JPEG2000MCLossless, JPEG2000MC, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K
)  # fmt: skip
